-- Approvals. Whose clock counts is the database's, so that replicas need not agree on the time.

-- name: take
-- $1 org id, $2 call hash
-- Uses up the approval of a call, for at most one caller: whoever comes second waits for the first
-- and finds the row used. What comes back instead is a denial that still stands, or nothing.
WITH taken AS (
    UPDATE mcp.approvals SET state = 'used', used_at = now()
    WHERE call_hash = $2 AND org_id IS NOT DISTINCT FROM $1
      AND state = 'approved' AND expires_at > now()
    RETURNING *
), found AS (
    SELECT * FROM taken
    UNION ALL
    SELECT * FROM mcp.approvals
    WHERE call_hash = $2 AND org_id IS NOT DISTINCT FROM $1
      AND state = 'denied' AND expires_at > now()
)
SELECT found.*, orgs.name AS org_name
FROM found LEFT JOIN mcp.orgs ON orgs.id = found.org_id;

-- name: lock
-- $1 org id, $2 subject
-- Lets one caller's requests be counted and written one at a time, until the transaction ends.
SELECT pg_advisory_xact_lock(hashtextextended('approvals ' || coalesce($1::uuid::text, '') || $2, 0));

-- name: expire
-- $1 org id, $2 call hash
-- Makes room for a new request in the place of one that nobody came to.
UPDATE mcp.approvals SET state = 'expired'
WHERE call_hash = $2 AND org_id IS NOT DISTINCT FROM $1
  AND state IN ('pending', 'approved', 'denied') AND expires_at <= now();

-- name: count_pending
-- $1 org id, $2 subject, $3 call hash
-- How many other calls of one caller wait for a person.
SELECT count(*) FROM mcp.approvals
WHERE subject = $2 AND org_id IS NOT DISTINCT FROM $1 AND state = 'pending'
  AND expires_at > now() AND call_hash <> $3;

-- name: put
-- $1 id, $2 org id, $3 call hash, $4 subject, $5 user, $6 server, $7 tool, $8 arguments, $9 risk,
-- $10 four eyes, $11 seconds an approval is valid, $12 seconds a request is pending
-- The open request of a call, made if there is none. Writing the state it has makes the row come
-- back either way; one of another organisation neither changes nor comes back.
INSERT INTO mcp.approvals (id, org_id, call_hash, subject, user_name, server, tool, arguments, risk,
    four_eyes, valid_for, expires_at)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, now() + make_interval(secs => $12))
ON CONFLICT (call_hash) WHERE state IN ('pending', 'approved', 'denied')
DO UPDATE SET state = approvals.state WHERE approvals.org_id IS NOT DISTINCT FROM EXCLUDED.org_id
RETURNING *, (SELECT name FROM mcp.orgs WHERE orgs.id = approvals.org_id) AS org_name;

-- name: approve
-- $1 org id, $2 whether for every organisation, $3 id, $4 subject of the approver, $5 its user
UPDATE mcp.approvals
SET state = 'approved', decided_by = $4, decided_at = now(),
    expires_at = now() + make_interval(secs => valid_for)
WHERE id = $3 AND ($2 OR org_id IS NOT DISTINCT FROM $1) AND state = 'pending'
  AND expires_at > now()
  AND NOT (four_eyes AND (subject = $4 OR coalesce(user_name = $5, FALSE)))
RETURNING *, (SELECT name FROM mcp.orgs WHERE orgs.id = approvals.org_id) AS org_name;

-- name: deny
-- $1 org id, $2 whether for every organisation, $3 id, $4 subject of the approver
-- Also takes back an approval that was not used yet.
UPDATE mcp.approvals
SET state = 'denied', decided_by = $4, decided_at = now(),
    expires_at = now() + make_interval(secs => valid_for)
WHERE id = $3 AND ($2 OR org_id IS NOT DISTINCT FROM $1) AND state IN ('pending', 'approved')
  AND expires_at > now()
RETURNING *, (SELECT name FROM mcp.orgs WHERE orgs.id = approvals.org_id) AS org_name;

-- name: find
-- $1 org id, $2 whether in every organisation, $3 id
-- `is_over` says that the time of a row has come, which nobody writes down.
SELECT approvals.*, orgs.name AS org_name,
    state IN ('pending', 'approved') AND expires_at <= now() AS is_over
FROM mcp.approvals LEFT JOIN mcp.orgs ON orgs.id = approvals.org_id
WHERE approvals.id = $3 AND ($2 OR org_id IS NOT DISTINCT FROM $1);

-- name: list_scope
-- $1 org id, $2 whether those of every organisation, $3 whether those that are over as well
-- The newest thousand at most, in the order in which they were made.
SELECT * FROM (
    SELECT approvals.*, orgs.name AS org_name,
        state IN ('pending', 'approved') AND expires_at <= now() AS is_over
    FROM mcp.approvals LEFT JOIN mcp.orgs ON orgs.id = approvals.org_id
    WHERE ($2 OR org_id IS NOT DISTINCT FROM $1)
      AND ($3 OR (state = 'pending' AND expires_at > now()))
    ORDER BY approvals.created_at DESC, approvals.id
    LIMIT 1000
) AS newest ORDER BY created_at, id;

-- name: forget
-- $1 seconds
-- Deletes what has been over for so long. Rows that somebody is about to write are left for the
-- next time.
DELETE FROM mcp.approvals WHERE id IN (
    SELECT id FROM mcp.approvals WHERE expires_at < now() - make_interval(secs => $1)
    FOR UPDATE SKIP LOCKED LIMIT 1000
);
