-- Back to an empty schema. The tables are kept as *_backup_0001: 0001 takes them up again.

ALTER TABLE IF EXISTS mcp.resource_templates RENAME TO resource_templates_backup_0001;
ALTER TABLE IF EXISTS mcp.resources RENAME TO resources_backup_0001;
ALTER TABLE IF EXISTS mcp.prompts RENAME TO prompts_backup_0001;
ALTER TABLE IF EXISTS mcp.tools RENAME TO tools_backup_0001;
ALTER TABLE IF EXISTS mcp.servers RENAME TO servers_backup_0001;
