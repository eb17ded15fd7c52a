-- Back to a catalog that takes every definition as it comes. The table is kept as pins_backup_0009:
-- 0009 takes it up again.

ALTER TABLE IF EXISTS mcp.pins RENAME TO pins_backup_0009;
