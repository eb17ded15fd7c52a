-- The audit, for whoever looks through it.

-- name: before
-- $1 organisation, $2 pattern of subject or user, $3 pattern of action, target or name, $4 outcome,
-- $5 since, $6 before this id, $7 how many
-- The newest entries that fit, the newest first. NULL fits everything. Ids go up with time, so this
-- is the primary key read backwards, or the organisation's part of idx_audit_org.
SELECT * FROM mcp.audit
WHERE ($1::text IS NULL OR org = $1)
  AND ($2::text IS NULL OR subject LIKE $2 OR user_name LIKE $2)
  AND ($3::text IS NULL OR action LIKE $3 OR name LIKE $3 OR server || '/' || own_name LIKE $3)
  AND ($4::text IS NULL OR outcome = $4)
  AND ($5::timestamptz IS NULL OR at >= $5)
  AND ($6::bigint IS NULL OR id < $6)
ORDER BY id DESC LIMIT $7;
