-- Back to a Trunkline that asks nobody. The table is kept as approvals_backup_0008: 0008 takes it up
-- again.

ALTER TABLE IF EXISTS mcp.approvals RENAME TO approvals_backup_0008;
