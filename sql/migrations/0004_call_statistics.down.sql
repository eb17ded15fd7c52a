-- Back to a catalog that does not count. The table is kept as call_statistics_backup_0004: 0004
-- takes it up again.

ALTER TABLE IF EXISTS mcp.call_statistics RENAME TO call_statistics_backup_0004;
