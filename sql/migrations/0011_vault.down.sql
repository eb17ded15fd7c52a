-- Back to a Trunkline that keeps no credentials of people. The table is kept as vault_backup_0011:
-- 0011 takes it up again.

ALTER TABLE IF EXISTS mcp.vault RENAME TO vault_backup_0011;
