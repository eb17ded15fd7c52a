-- What the index has to be told. The worker is the process's own and serves every organisation.

-- name: claim
-- $1 how many, $2 seconds they are the claimer's
-- The errands that wait longest. An errand that nobody settles in time can be claimed again; two
-- workers never have the same one.
UPDATE mcp.outbox
SET claim = gen_random_uuid(), attempts = attempts + 1,
    due_at = now() + make_interval(secs => $2::double precision)
WHERE (kind, item_id) IN (
    SELECT kind, item_id FROM mcp.outbox WHERE due_at <= now()
    ORDER BY due_at, created_at LIMIT $1 FOR UPDATE SKIP LOCKED
)
RETURNING kind, item_id, operation, version, claim, attempts - 1 AS attempts;

-- name: postpone
-- $1 kinds, $2 item ids, $3 claims, $4 seconds, $5 what went wrong
-- Errands that failed, to be tried again later.
UPDATE mcp.outbox
SET claim = NULL, last_error = $5, due_at = now() + make_interval(secs => $4::double precision)
FROM unnest($1::text[], $2::integer[], $3::uuid[]) AS failed (kind, item_id, claim)
WHERE outbox.kind = failed.kind AND outbox.item_id = failed.item_id
  AND outbox.claim = failed.claim;

-- name: backlog
-- How far the index is behind.
SELECT count(*) FROM mcp.outbox;

-- name: requeue
-- Every tool once more: what is made of them is made otherwise now.
INSERT INTO mcp.outbox (kind, item_id, operation)
SELECT 'tools', id, 'upsert' FROM mcp.tools WHERE hidden_at IS NULL
ON CONFLICT (kind, item_id) DO UPDATE
SET version = outbox.version + 1, attempts = 0,
    due_at = CASE WHEN outbox.claim IS NULL THEN now() ELSE outbox.due_at END;
