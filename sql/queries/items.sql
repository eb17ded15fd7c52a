-- Tools, prompts, resources and templates: read once for each, with its table for {items}.
-- A row of an organisation is changed only by it; a global one only by nobody's (org null).
-- An errand that a worker has claimed stays the worker's until it is settled: two at once would
-- let a slow upsert bring back into the index what a quick delete took out.

-- name: lock_server
-- $1 org id, $2 server id
-- Keeps other syncs of the same server waiting until this one has committed. No row: there is no
-- such server in that scope.
SELECT id FROM mcp.servers
WHERE id = $2 AND org_id IS NOT DISTINCT FROM $1 AND hidden_at IS NULL
FOR NO KEY UPDATE;

-- name: known
-- $1 org id, $2 server id
-- What a list is compared with, hidden items included: they come back with their ids.
SELECT id, own_hash, name, content_hash, position, hidden_at IS NOT NULL AS hidden
FROM mcp.{items}
WHERE source_server_id = $2 AND org_id IS NOT DISTINCT FROM $1;

-- name: taken
-- $1 org id, $2 server id, $3 names
-- Those of the names that another server's items have in the same scope.
SELECT name FROM mcp.{items}
WHERE name_hash IN (SELECT sha256(convert_to(wanted, 'UTF8')) FROM unnest($3::text[]) AS wanted)
  AND org_id IS NOT DISTINCT FROM $1 AND source_server_id <> $2 AND hidden_at IS NULL;

-- name: hide
-- $1 org id, $2 ids
-- The first half of a delete, and the errand for the index, in one statement.
WITH hidden AS (
    UPDATE mcp.{items} SET hidden_at = now(), updated_at = now()
    WHERE id = ANY($2::integer[]) AND org_id IS NOT DISTINCT FROM $1 AND hidden_at IS NULL
    RETURNING id
), queued AS (
    INSERT INTO mcp.outbox (kind, item_id, operation) SELECT '{kind}', id, 'delete' FROM hidden
    ON CONFLICT (kind, item_id) DO UPDATE
    SET operation = 'delete', version = outbox.version + 1, attempts = 0,
        due_at = CASE WHEN outbox.claim IS NULL THEN now() ELSE outbox.due_at END
)
SELECT count(*) FROM hidden;

-- name: give_up_names
-- $1 org id, $2 ids
-- Hides items that are about to be renamed, so that two of them can exchange their names.
UPDATE mcp.{items} SET hidden_at = now()
WHERE id = ANY($2::integer[]) AND org_id IS NOT DISTINCT FROM $1;

-- name: update
-- $1 org id, $2 ids, $3 names, $4 definitions, $5 content hashes, $6 positions
-- Items with another content, or back from being hidden.
WITH changed AS (
    UPDATE mcp.{items} AS item
    SET name = new.name, name_hash = sha256(convert_to(new.name, 'UTF8')),
        definition = new.definition::json, content_hash = new.content_hash,
        position = new.position, hidden_at = NULL, updated_at = now()
    FROM unnest($2::integer[], $3::text[], $4::text[], $5::bytea[], $6::integer[])
        AS new (id, name, definition, content_hash, position)
    WHERE item.id = new.id AND item.org_id IS NOT DISTINCT FROM $1
    RETURNING item.id
), queued AS (
    INSERT INTO mcp.outbox (kind, item_id, operation) SELECT '{kind}', id, 'upsert' FROM changed
    ON CONFLICT (kind, item_id) DO UPDATE
    SET operation = 'upsert', version = outbox.version + 1, attempts = 0,
        due_at = CASE WHEN outbox.claim IS NULL THEN now() ELSE outbox.due_at END
)
SELECT count(*) FROM changed;

-- name: move
-- $1 org id, $2 ids, $3 positions
-- Only the place in the list is another: the index need not know.
UPDATE mcp.{items} AS item SET position = new.position
FROM unnest($2::integer[], $3::integer[]) AS new (id, position)
WHERE item.id = new.id AND item.org_id IS NOT DISTINCT FROM $1;

-- name: insert
-- $1 org id, $2 server id, $3 own names, $4 names, $5 definitions, $6 content hashes, $7 positions
-- Only what is not there, so that no id is drawn for what is. In the order of the names, as the
-- lots come, so that two servers that want the same ones wait for each other and do not lock each
-- other up.
WITH added AS (
    INSERT INTO mcp.{items} (source_server_id, own_name, own_hash, name, name_hash, definition,
        content_hash, position, org_id, is_global)
    SELECT $2, own_name, sha256(convert_to(own_name, 'UTF8')), name,
        sha256(convert_to(name, 'UTF8')), definition::json, content_hash, position,
        $1, $1::uuid IS NULL
    FROM unnest($3::text[], $4::text[], $5::text[], $6::bytea[], $7::integer[])
        AS new (own_name, name, definition, content_hash, position)
    ORDER BY name COLLATE "C"
    RETURNING id
), queued AS (
    INSERT INTO mcp.outbox (kind, item_id, operation) SELECT '{kind}', id, 'upsert' FROM added
)
SELECT count(*) FROM added;

-- name: announce
-- $1 server id
-- Other processes hear of it when the transaction commits, and whose it was.
SELECT pg_notify('mcp_catalog', json_build_object('kind', '{kind}', 'server', $1::integer,
    'by', current_setting('application_name'))::text);

-- name: list_visible
-- $1 org id
-- What an organisation may see: its own and what is everybody's.
SELECT item.id, item.source_server_id, item.org_id, item.own_name, item.name, item.definition
FROM mcp.{items} AS item JOIN mcp.servers AS server ON server.id = item.source_server_id
WHERE item.hidden_at IS NULL AND (item.is_global OR item.org_id = $1)
ORDER BY server.position, server.id, item.position, item.id;

-- name: of_server
-- $1 org id, $2 server id
-- What a server of this scope lists, in its order.
SELECT id, source_server_id, org_id, own_name, name, definition FROM mcp.{items}
WHERE source_server_id = $2 AND org_id IS NOT DISTINCT FROM $1 AND hidden_at IS NULL
ORDER BY position, id;

-- name: ids
-- $1 org id, $2 server id
SELECT own_name, id FROM mcp.{items}
WHERE source_server_id = $2 AND org_id IS NOT DISTINCT FROM $1 AND hidden_at IS NULL;

-- name: read
-- $1 ids
-- For the process itself, which serves every organisation: those that are not hidden.
SELECT id, source_server_id, org_id, own_name, name, definition FROM mcp.{items}
WHERE id = ANY($1::integer[]) AND hidden_at IS NULL
ORDER BY id;

-- name: page
-- $1 the id after which, $2 how many
-- For the process itself: everything there is, in the order of the ids.
SELECT id, source_server_id, org_id, own_name, name, definition FROM mcp.{items}
WHERE id > $1 AND hidden_at IS NULL
ORDER BY id LIMIT $2;

-- name: highest
-- For the process itself: the highest id that was ever given out and is still there; 0 for none.
SELECT coalesce(max(id), 0) FROM mcp.{items};

-- name: count_all
-- For the process itself.
SELECT count(*) FROM mcp.{items} WHERE hidden_at IS NULL;

-- name: find
-- $1 org id, $2 ids
-- Those of the items that an organisation may see.
SELECT id, source_server_id, org_id, own_name, name, definition FROM mcp.{items}
WHERE id = ANY($2::integer[]) AND hidden_at IS NULL AND (is_global OR org_id = $1)
ORDER BY id;

-- name: count_visible
-- $1 org id
SELECT count(*) FROM mcp.{items}
WHERE hidden_at IS NULL AND (is_global OR org_id = $1);

-- name: delete_by_server
-- $1 org id, $2 server id
-- Deletes all items of a server and returns how many there were, in one statement: nothing can
-- come or go between the counting and the deleting. The rows go when the index has let go.
WITH deleted AS (
    UPDATE mcp.{items} SET hidden_at = now(), updated_at = now()
    WHERE source_server_id = $2 AND org_id IS NOT DISTINCT FROM $1 AND hidden_at IS NULL
    RETURNING id
), queued AS (
    INSERT INTO mcp.outbox (kind, item_id, operation) SELECT '{kind}', id, 'delete' FROM deleted
    ON CONFLICT (kind, item_id) DO UPDATE
    SET operation = 'delete', version = outbox.version + 1, attempts = 0,
        due_at = CASE WHEN outbox.claim IS NULL THEN now() ELSE outbox.due_at END
), told AS (
    SELECT pg_notify('mcp_catalog', json_build_object('kind', '{kind}', 'server', $2,
        'by', current_setting('application_name'))::text)
    WHERE EXISTS (SELECT FROM deleted)
)
SELECT (SELECT count(*) FROM deleted) AS count, (SELECT count(*) FROM told) AS told;

-- name: settle
-- $1 item ids, $2 versions, $3 claims
-- Strikes off errands that are done, and deletes the rows of those that were deletes. What changed
-- meanwhile stays, and may be claimed again at once. The item is locked first, as a sync does it.
WITH done AS (
    SELECT * FROM unnest($1::integer[], $2::bigint[], $3::uuid[]) AS done (item_id, version, claim)
), locked AS (
    SELECT item.id FROM mcp.{items} AS item
    WHERE item.id IN (SELECT item_id FROM done) ORDER BY item.id FOR UPDATE
), errand AS (
    SELECT done.* FROM done WHERE (SELECT count(*) FROM locked) >= 0
), struck AS (
    DELETE FROM mcp.outbox USING errand
    WHERE outbox.kind = '{kind}' AND outbox.item_id = errand.item_id
      AND outbox.version = errand.version AND outbox.claim = errand.claim
    RETURNING outbox.item_id, outbox.operation
), gone AS (
    DELETE FROM mcp.{items} AS item USING struck
    WHERE item.id = struck.item_id AND struck.operation = 'delete' AND item.hidden_at IS NOT NULL
), released AS (
    UPDATE mcp.outbox SET claim = NULL, due_at = now() FROM errand
    WHERE outbox.kind = '{kind}' AND outbox.item_id = errand.item_id
      AND outbox.version <> errand.version AND outbox.claim = errand.claim
)
SELECT item_id FROM struck;
