-- How tools do, for whom.

-- name: record
-- $1 org id of the callers, $2 tool ids, $3 counts, $4 errors, $5 seconds, $6 buckets as text
-- Adds to the sums. A tool that is gone, or that the organisation may not see, is passed over.
-- In the order of the ids, so that two processes do not lock each other up.
INSERT INTO mcp.call_statistics AS there
    (tool_id, org_id, calls, errors, seconds, buckets, last_used)
SELECT tool.id, $1, new.calls, new.errors, new.seconds, new.buckets::bigint[], now()
FROM unnest($2::integer[], $3::bigint[], $4::bigint[], $5::double precision[], $6::text[])
    AS new (tool_id, calls, errors, seconds, buckets)
JOIN mcp.tools AS tool ON tool.id = new.tool_id
WHERE tool.is_global OR tool.org_id = $1
ORDER BY tool.id
FOR KEY SHARE OF tool
ON CONFLICT (tool_id, (coalesce(org_id, '00000000-0000-0000-0000-000000000000'))) DO UPDATE
SET calls = there.calls + EXCLUDED.calls,
    errors = there.errors + EXCLUDED.errors,
    seconds = there.seconds + EXCLUDED.seconds,
    buckets = ARRAY(
        SELECT coalesce(old, 0) + coalesce(new, 0)
        FROM unnest(there.buckets, EXCLUDED.buckets) WITH ORDINALITY AS sums (old, new, place)
        ORDER BY place
    ),
    last_used = EXCLUDED.last_used;

-- name: of_tools
-- $1 org id, $2 tool ids
-- An organisation's own calls, and nobody else's.
SELECT used.tool_id, used.calls, used.errors, used.seconds, used.buckets, used.last_used
FROM mcp.call_statistics AS used JOIN mcp.tools AS tool ON tool.id = used.tool_id
WHERE used.tool_id = ANY($2::integer[]) AND used.org_id IS NOT DISTINCT FROM $1
  AND tool.hidden_at IS NULL AND (tool.is_global OR tool.org_id = $1);
