-- Who did what. Rows are added, read, and go by age; a trigger refuses everything else.

-- name: add
-- $1 chains, $2 places, $3 hashes, $4 times, $5 request ids, $6 subjects, $7 users, $8 organisations,
-- $9 roles, $10 faces, $11 actions, $12 servers, $13 own names, $14 names, $15 hashes of arguments,
-- $16 arguments, $17 outcomes, $18 codes, $19 milliseconds, $20 causes
-- An entry that is there already is passed over: whoever does not know whether its entries arrived
-- sends them again.
INSERT INTO mcp.audit (
    chain, place, hash, at, request, subject, user_name, org, role, face, action, server, own_name,
    name, arguments_hash, arguments, outcome, code, duration_ms, causes
)
SELECT * FROM unnest(
    $1::uuid[], $2::bigint[], $3::bytea[], $4::timestamptz[], $5::text[], $6::text[], $7::text[],
    $8::text[], $9::text[], $10::text[], $11::text[], $12::text[], $13::text[], $14::text[],
    $15::bytea[], $16::json[], $17::text[], $18::text[], $19::double precision[], $20::json[]
)
ON CONFLICT (chain, place) DO NOTHING;

-- name: find
-- $1 organisation, $2 pattern of subject or user, $3 pattern of action, target or name, $4 outcome,
-- $5 since, $6 after this id, $7 before this id, $8 how many
-- The newest entries that fit, the newest first. NULL fits everything. Ids go up with time, so this
-- is the primary key read backwards, or the organisation's part of idx_audit_org.
SELECT * FROM mcp.audit
WHERE ($1::text IS NULL OR org = $1)
  AND ($2::text IS NULL OR subject LIKE $2 OR user_name LIKE $2)
  AND ($3::text IS NULL OR action LIKE $3 OR name LIKE $3 OR server || '/' || own_name LIKE $3)
  AND ($4::text IS NULL OR outcome = $4)
  AND ($5::timestamptz IS NULL OR at >= $5)
  AND ($6::bigint IS NULL OR id > $6)
  AND ($7::bigint IS NULL OR id < $7)
ORDER BY id DESC LIMIT $8;

-- name: walk
-- $1 chain, $2 place, $3 how many
-- The entries after a place of a chain, chain by chain.
SELECT * FROM mcp.audit WHERE (chain, place) > ($1::uuid, $2::bigint)
ORDER BY chain, place LIMIT $3;

-- name: allow_expiry
-- Says to the trigger, for this transaction, that rows go by age.
SELECT set_config('trunkline.audit_expiry', 'on', true);

-- name: expire
-- $1 days, $2 how many at most
-- The oldest entries go.
DELETE FROM mcp.audit WHERE id IN (
    SELECT id FROM mcp.audit WHERE at < now() - make_interval(days => $1::integer)
    ORDER BY at LIMIT $2
);
