-- Back to a catalog without skills. The tables are kept as *_backup_0002: 0002 takes them up again.

ALTER TABLE IF EXISTS mcp.tool_skill_assignments RENAME TO tool_skill_assignments_backup_0002;
ALTER TABLE IF EXISTS mcp.skill_categories RENAME TO skill_categories_backup_0002;
