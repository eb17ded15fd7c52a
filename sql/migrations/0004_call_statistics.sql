-- How tools do: sums that only grow, so that adding to them needs no reading first.
--
-- `buckets` counts calls by how long they took; the bounds are the program's.
--
-- Way back: 0004_call_statistics.down.sql keeps the table as call_statistics_backup_0004.

ALTER TABLE IF EXISTS mcp.call_statistics_backup_0004 RENAME TO call_statistics;

CREATE TABLE IF NOT EXISTS mcp.call_statistics (
    tool_id integer NOT NULL REFERENCES mcp.tools (id) ON DELETE CASCADE,
    calls bigint NOT NULL DEFAULT 0,
    errors bigint NOT NULL DEFAULT 0,
    seconds double precision NOT NULL DEFAULT 0,
    buckets bigint[] NOT NULL DEFAULT '{}',
    last_used timestamptz NOT NULL DEFAULT now()
);

CREATE UNIQUE INDEX IF NOT EXISTS idx_call_statistics_tool ON mcp.call_statistics (tool_id);
