-- The vault. What is stored is sealed before it comes here; org null is whoever has no organisation.

-- name: find
-- $1 org id, $2 user, $3 name
SELECT key_id, wrapped_key, sealed FROM mcp.vault
WHERE org_id IS NOT DISTINCT FROM $1 AND user_name = $2 AND name = $3;

-- name: hold_keys
-- $1 whether the keys are to be changed
-- Until the transaction ends: whoever seals may do so beside others, and who changes the keys alone.
SELECT CASE WHEN $1::boolean
    THEN pg_advisory_xact_lock(hashtext('trunkline vault'))::text
    ELSE pg_advisory_xact_lock_shared(hashtext('trunkline vault'))::text
END;

-- name: put
-- $1 org id, $2 user, $3 name, $4 key id, $5 wrapped key, $6 sealed secret
-- Keeps a secret in the place of the one before, and tells everybody who may have that in memory.
WITH kept AS (
    INSERT INTO mcp.vault AS there (org_id, user_name, name, key_id, wrapped_key, sealed)
    VALUES ($1, $2, $3, $4, $5, $6)
    ON CONFLICT (coalesce(org_id, '00000000-0000-0000-0000-000000000000'), user_name, name)
    DO UPDATE SET key_id = EXCLUDED.key_id, wrapped_key = EXCLUDED.wrapped_key,
        sealed = EXCLUDED.sealed, updated_at = now()
    RETURNING there.org_id, there.user_name, there.name
)
SELECT pg_notify('mcp_vault', json_build_object('org', (SELECT name FROM mcp.orgs WHERE id = kept.org_id),
    'user', kept.user_name, 'name', kept.name, 'by', current_setting('application_name'))::text)
FROM kept;

-- name: forget
-- $1 org id, $2 user, $3 name
WITH gone AS (
    DELETE FROM mcp.vault WHERE org_id IS NOT DISTINCT FROM $1 AND user_name = $2 AND name = $3
    RETURNING org_id, user_name, name
)
SELECT pg_notify('mcp_vault', json_build_object('org', (SELECT name FROM mcp.orgs WHERE id = gone.org_id),
    'user', gone.user_name, 'name', gone.name, 'by', current_setting('application_name'))::text)
FROM gone;

-- name: count_by_key
-- How many secrets there are under each master key.
SELECT key_id, count(*) AS secrets FROM mcp.vault GROUP BY key_id ORDER BY key_id;

-- name: under_other_keys
-- $1 key id, $2 how many at most, $3 org id, $4 user, $5 name of the last one looked at, or ''
-- Secrets whose keys are to be wrapped anew. Those that another process is at are passed over.
SELECT org_id, user_name, name, key_id, wrapped_key FROM mcp.vault
WHERE key_id <> $1
  AND (coalesce(org_id, '00000000-0000-0000-0000-000000000000'), user_name, name)
    > (coalesce($3::uuid, '00000000-0000-0000-0000-000000000000'), $4, $5)
ORDER BY coalesce(org_id, '00000000-0000-0000-0000-000000000000'), user_name, name LIMIT $2
FOR UPDATE SKIP LOCKED;

-- name: rewrap
-- $1 org id, $2 user, $3 name, $4 key id, $5 wrapped key
-- The secret stays as it is, and what is in memory of it stays good.
UPDATE mcp.vault SET key_id = $4, wrapped_key = $5
WHERE org_id IS NOT DISTINCT FROM $1 AND user_name = $2 AND name = $3;
