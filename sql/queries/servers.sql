-- Servers. A row of an organisation is changed only by it, a global one only by nobody's (org null).

-- name: put
-- $1 org id, $2 name, $3 origin, $4 config, $5 position
-- Adds a server, or changes one that is another now; one that was hidden is back, with its id.
-- What is the same is not written, and no id is drawn for what is there. One that an administrator
-- added stays as it was added, until that is taken back: a file or a plugin only borrows its row.
WITH there AS (
    SELECT * FROM mcp.servers WHERE name = $2 AND org_id IS NOT DISTINCT FROM $1 FOR UPDATE
), changed AS (
    UPDATE mcp.servers AS server
    SET origin = $3, config = $4::text::json, position = $5, hidden_at = NULL, updated_at = now()
    FROM there
    WHERE server.id = there.id
      AND NOT (there.origin = 'api' AND $3 <> 'api' AND there.hidden_at IS NULL)
      AND (there.origin, there.config::text, there.position, there.hidden_at IS NULL)
          IS DISTINCT FROM ($3, $4::text, $5, TRUE)
    RETURNING server.*
), added AS (
    INSERT INTO mcp.servers (name, origin, config, position, org_id, is_global)
    SELECT $2, $3, $4::text::json, $5, $1, $1::uuid IS NULL
    WHERE NOT EXISTS (SELECT FROM there)
    RETURNING *
), told AS (
    SELECT pg_notify('mcp_catalog', json_build_object('kind', 'servers', 'server', id,
        'by', current_setting('application_name'))::text)
    FROM (SELECT id FROM changed UNION ALL SELECT id FROM added) AS news
)
SELECT id, org_id, name, origin, config::text, about::text, position, (SELECT count(*) FROM told)
FROM changed
UNION ALL
SELECT id, org_id, name, origin, config::text, about::text, position, (SELECT count(*) FROM told)
FROM added
UNION ALL
SELECT id, org_id, name, origin, config::text, about::text, position, 0
FROM there
WHERE NOT EXISTS (SELECT FROM changed);

-- name: keep
-- $1 org id, $2 name
-- The row of a server that an administrator added, held while what it lists is stored. Only an
-- administrator changes it: whoever serves it may have read it before it was changed.
SELECT id, org_id, name, origin, config, about, position FROM mcp.servers
WHERE name = $2 AND org_id IS NOT DISTINCT FROM $1 AND origin = 'api' AND hidden_at IS NULL
FOR NO KEY UPDATE;

-- name: describe
-- $1 org id, $2 server id, $3 about
-- Keeps what a server says of itself, if that is news.
UPDATE mcp.servers SET about = $3::text::json, updated_at = now()
WHERE id = $2 AND org_id IS NOT DISTINCT FROM $1 AND hidden_at IS NULL AND about::text <> $3::text
RETURNING id;

-- name: list_visible
-- $1 org id
SELECT id, org_id, name, origin, config, about, position FROM mcp.servers
WHERE hidden_at IS NULL AND (is_global OR org_id = $1)
ORDER BY position, id;

-- name: find
-- $1 org id, $2 name
-- An organisation's own server comes before a global one of the same name.
SELECT id, org_id, name, origin, config, about, position FROM mcp.servers
WHERE name = $2 AND hidden_at IS NULL AND (is_global OR org_id = $1)
ORDER BY is_global LIMIT 1;

-- name: of_id
-- $1 org id, $2 server id
-- A server of this scope, hidden or not.
SELECT id, org_id, name, origin, config, about, position, hidden_at IS NOT NULL AS hidden
FROM mcp.servers WHERE id = $2 AND org_id IS NOT DISTINCT FROM $1;

-- name: list_scope
-- $1 org id
-- The servers of this scope alone.
SELECT id, org_id, name, origin, config, about, position FROM mcp.servers
WHERE hidden_at IS NULL AND org_id IS NOT DISTINCT FROM $1
ORDER BY position, id;

-- name: read
-- $1 ids
-- For the process itself, which serves every organisation.
SELECT id, org_id, name, origin, config, about, position FROM mcp.servers
WHERE id = ANY($1::integer[]) AND hidden_at IS NULL;

-- name: lock
-- $1 org id, $2 server id
-- Waits for a sync of the server, so that the next statement sees what it left.
SELECT id FROM mcp.servers WHERE id = $2 AND org_id IS NOT DISTINCT FROM $1 FOR NO KEY UPDATE;

-- name: hide
-- $1 org id, $2 server id
-- The first half of deleting a server and all of its items, with the errands for the index. The
-- server's row stays. Run it after lock.
WITH gone AS (
    UPDATE mcp.servers SET hidden_at = now(), updated_at = now()
    WHERE id = $2 AND org_id IS NOT DISTINCT FROM $1 AND hidden_at IS NULL
    RETURNING id
), hidden_tools AS (
    UPDATE mcp.tools AS item SET hidden_at = now(), updated_at = now() FROM gone
    WHERE item.source_server_id = gone.id AND item.hidden_at IS NULL RETURNING item.id
), hidden_prompts AS (
    UPDATE mcp.prompts AS item SET hidden_at = now(), updated_at = now() FROM gone
    WHERE item.source_server_id = gone.id AND item.hidden_at IS NULL RETURNING item.id
), hidden_resources AS (
    UPDATE mcp.resources AS item SET hidden_at = now(), updated_at = now() FROM gone
    WHERE item.source_server_id = gone.id AND item.hidden_at IS NULL RETURNING item.id
), hidden_templates AS (
    UPDATE mcp.resource_templates AS item SET hidden_at = now(), updated_at = now() FROM gone
    WHERE item.source_server_id = gone.id AND item.hidden_at IS NULL RETURNING item.id
), hidden AS (
    SELECT 'tools' AS kind, id FROM hidden_tools
    UNION ALL SELECT 'prompts', id FROM hidden_prompts
    UNION ALL SELECT 'resources', id FROM hidden_resources
    UNION ALL SELECT 'templates', id FROM hidden_templates
), queued AS (
    INSERT INTO mcp.outbox (kind, item_id, operation) SELECT kind, id, 'delete' FROM hidden
    ON CONFLICT (kind, item_id) DO UPDATE
    SET operation = 'delete', version = outbox.version + 1, attempts = 0,
        due_at = CASE WHEN outbox.claim IS NULL THEN now() ELSE outbox.due_at END
)
SELECT id, pg_notify('mcp_catalog', json_build_object('kind', 'servers', 'server', id,
        'by', current_setting('application_name'))::text)
FROM gone;
