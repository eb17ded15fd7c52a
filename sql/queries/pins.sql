-- Pins: what tools were when they were accepted. Each statement is for one scope: an organisation's
-- own, or what is nobody's (org null).

-- name: load
-- For the process itself: everything that a definition is compared with, and no definition.
SELECT org.name AS org, pin.server, pin.own_name, pin.accepted_hash, pin.accepted_by, pin.is_late,
    pin.pending_hash
FROM mcp.pins AS pin LEFT JOIN mcp.orgs AS org ON org.id = pin.org_id;

-- name: of_server
-- $1 org id, $2 server
-- The same of one server.
SELECT server, own_name, accepted_hash, accepted_by, is_late, pending_hash FROM mcp.pins
WHERE org_id IS NOT DISTINCT FROM $1 AND server = $2;

-- name: add
-- $1 org id, $2 servers, $3 own names, $4 definitions, $5 hashes, $6 whether they came late
-- Pins what has no pin yet. In the order of the index, so that two processes that see the same
-- tools wait for each other and do not lock each other up.
INSERT INTO mcp.pins (org_id, server, own_name, own_hash, accepted, accepted_hash, is_late)
SELECT $1, server, own_name, sha256(convert_to(own_name, 'UTF8')), definition::json, hash, is_late
FROM unnest($2::text[], $3::text[], $4::text[], $5::bytea[], $6::boolean[])
    AS seen (server, own_name, definition, hash, is_late)
ORDER BY server, sha256(convert_to(own_name, 'UTF8'))
ON CONFLICT ((coalesce(org_id, '00000000-0000-0000-0000-000000000000')), server, own_hash)
DO NOTHING;

-- name: lock
-- $1 org id, $2 servers, $3 own names
-- What there is of these tools, held until the transaction ends.
SELECT pin.server, pin.own_name, pin.accepted_hash, pin.accepted_by, pin.is_late, pin.pending_hash
FROM mcp.pins AS pin
JOIN unnest($2::text[], $3::text[]) AS seen (server, own_name)
  ON pin.server = seen.server AND pin.own_hash = sha256(convert_to(seen.own_name, 'UTF8'))
WHERE pin.org_id IS NOT DISTINCT FROM $1
ORDER BY pin.server, pin.own_hash
FOR UPDATE OF pin;

-- name: pend
-- $1 org id, $2 servers, $3 own names, $4 definitions, $5 hashes
-- Keeps what tools have become, beside what was accepted. Run it after lock.
UPDATE mcp.pins AS pin
SET pending = seen.definition::json, pending_hash = seen.hash, pending_since = now()
FROM unnest($2::text[], $3::text[], $4::text[], $5::bytea[])
    AS seen (server, own_name, definition, hash)
WHERE pin.server = seen.server AND pin.own_hash = sha256(convert_to(seen.own_name, 'UTF8'))
  AND pin.org_id IS NOT DISTINCT FROM $1;

-- name: clear
-- $1 org id, $2 servers, $3 own names
-- These tools are again what was accepted. Run it after lock.
UPDATE mcp.pins AS pin SET pending = NULL, pending_hash = NULL, pending_since = NULL
FROM unnest($2::text[], $3::text[]) AS seen (server, own_name)
WHERE pin.server = seen.server AND pin.own_hash = sha256(convert_to(seen.own_name, 'UTF8'))
  AND pin.org_id IS NOT DISTINCT FROM $1;

-- name: announce
-- $1 org's name, $2 servers, $3 whether whoever changed them knows already
-- Other processes hear of it when the transaction commits.
SELECT pg_notify('mcp_pins', json_build_object('org', $1::text, 'server', server, 'by',
    CASE WHEN $3::boolean THEN current_setting('application_name') END)::text)
FROM unnest($2::text[]) AS server;

-- name: accept
-- $1 org id, $2 server, $3 own name, $4 hash of what was looked at, $5 by whom
-- Nothing happens if that hash is neither what is pending nor what is accepted: somebody looked at
-- a definition that is not there any more. Whoever accepts what is accepted says they have seen it;
-- what is pending stays pending then.
UPDATE mcp.pins AS pin
SET accepted = CASE WHEN pending_hash = $4 THEN pending ELSE accepted END,
    accepted_hash = $4, accepted_by = $5, accepted_at = now(),
    pending = CASE WHEN pending_hash = $4 THEN NULL ELSE pending END,
    pending_since = CASE WHEN pending_hash = $4 THEN NULL ELSE pending_since END,
    pending_hash = nullif(pending_hash, $4)
WHERE org_id IS NOT DISTINCT FROM $1 AND server = $2
  AND own_hash = sha256(convert_to($3::text, 'UTF8')) AND $4 IN (pending_hash, accepted_hash)
RETURNING server;

-- name: list_scope
-- $1 org id
SELECT server, own_name, accepted, accepted_hash, accepted_by, accepted_at, is_late, pending,
    pending_hash, pending_since
FROM mcp.pins WHERE org_id IS NOT DISTINCT FROM $1
ORDER BY server, own_name COLLATE "C", own_hash;

-- name: find
-- $1 org id, $2 server, $3 own name
SELECT server, own_name, accepted, accepted_hash, accepted_by, accepted_at, is_late, pending,
    pending_hash, pending_since
FROM mcp.pins WHERE org_id IS NOT DISTINCT FROM $1 AND server = $2
  AND own_hash = sha256(convert_to($3::text, 'UTF8'));

-- name: forget
-- $1 org id, $2 server
-- Lets go of every pin of a server.
WITH gone AS (
    DELETE FROM mcp.pins WHERE org_id IS NOT DISTINCT FROM $1 AND server = $2 RETURNING own_hash
)
SELECT count(*) FROM gone;
