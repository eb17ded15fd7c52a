-- API keys. Whatever changes who may come in is notified on `mcp_keys`: every process reads anew.

-- name: list_all
-- For the process itself and for global administrators: every key there ever was, the oldest first.
SELECT key.*, org.name AS org
FROM mcp.keys AS key LEFT JOIN mcp.orgs AS org ON org.id = key.org_id
ORDER BY key.created_at, key.id;

-- name: list_scope
-- $1 org id
SELECT key.*, org.name AS org
FROM mcp.keys AS key LEFT JOIN mcp.orgs AS org ON org.id = key.org_id
WHERE key.org_id IS NOT DISTINCT FROM $1
ORDER BY key.created_at, key.id;

-- name: list_live
-- For the process itself: the keys that somebody may come in with. Expiry is looked at again when
-- they do.
SELECT key.*, org.name AS org
FROM mcp.keys AS key LEFT JOIN mcp.orgs AS org ON org.id = key.org_id
WHERE key.revoked_at IS NULL AND (key.expires_at IS NULL OR key.expires_at > now());

-- name: exist
-- Whether there has ever been a key.
SELECT EXISTS (SELECT FROM mcp.keys);

-- name: add
-- $1 org id, $2 id, $3 name, $4 user, $5 role, $6 allow, $7 deny, $8 orgs, $9 hash, $10 expiry
WITH key AS (
    INSERT INTO mcp.keys
        (org_id, id, name, user_name, role, allow, deny, authorized_orgs, secret_hash, expires_at)
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)
    RETURNING *
)
SELECT key.*, org.name AS org, pg_notify('mcp_keys', '')
FROM key LEFT JOIN mcp.orgs AS org ON org.id = key.org_id;

-- name: revoke
-- $1 org id, $2 id
-- Returns the key; nothing if it is not of this scope, or was revoked before.
WITH key AS (
    UPDATE mcp.keys SET revoked_at = now(), old_hash = NULL, old_until = NULL
    WHERE id = $2 AND org_id IS NOT DISTINCT FROM $1 AND revoked_at IS NULL
    RETURNING *
)
SELECT key.*, org.name AS org, pg_notify('mcp_keys', '')
FROM key LEFT JOIN mcp.orgs AS org ON org.id = key.org_id;

-- name: rotate
-- $1 org id, $2 id, $3 hash of the new secret, $4 how long the one before is good
-- A secret that was rotated out before is good no more. Returns the key; nothing if it is not of
-- this scope, or was revoked.
WITH key AS (
    UPDATE mcp.keys
    SET old_hash = CASE WHEN $4 > interval '0' THEN secret_hash END,
        old_until = CASE WHEN $4 > interval '0' THEN now() + $4 END,
        secret_hash = $3
    WHERE id = $2 AND org_id IS NOT DISTINCT FROM $1 AND revoked_at IS NULL
    RETURNING *
)
SELECT key.*, org.name AS org, pg_notify('mcp_keys', '')
FROM key LEFT JOIN mcp.orgs AS org ON org.id = key.org_id;

-- name: note_used
-- $1 ids, $2 when
-- Nobody is notified: who may come in is as it was.
UPDATE mcp.keys AS key SET last_used_at = greatest(key.last_used_at, used.at)
FROM unnest($1::text[], $2::timestamptz[]) AS used (id, at)
WHERE key.id = used.id;
