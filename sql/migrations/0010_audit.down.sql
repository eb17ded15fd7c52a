-- Back to a database without an audit. The table is kept as audit_backup_0010, and its trigger keeps
-- it as it is: 0010 takes it up again.

ALTER TABLE IF EXISTS mcp.audit RENAME TO audit_backup_0010;
