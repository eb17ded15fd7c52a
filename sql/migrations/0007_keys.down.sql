-- Back to a gateway without keys. The table is kept as keys_backup_0007: 0007 takes it up again.

ALTER TABLE IF EXISTS mcp.keys RENAME TO keys_backup_0007;
