-- Back to a catalog that is everybody's. What belongs to an organisation must not become so: its
-- rows are kept in *_backup_0005 and taken out of the tables and of the index. 0005 takes them up
-- again, with their ids.

-- 1. Backup before anything is deleted. INSERT adds to a backup that is already there.

CREATE TABLE IF NOT EXISTS mcp.servers_backup_0005 (LIKE mcp.servers);
CREATE TABLE IF NOT EXISTS mcp.tools_backup_0005 (LIKE mcp.tools);
CREATE TABLE IF NOT EXISTS mcp.prompts_backup_0005 (LIKE mcp.prompts);
CREATE TABLE IF NOT EXISTS mcp.resources_backup_0005 (LIKE mcp.resources);
CREATE TABLE IF NOT EXISTS mcp.resource_templates_backup_0005 (LIKE mcp.resource_templates);
CREATE TABLE IF NOT EXISTS mcp.skill_categories_backup_0005 (LIKE mcp.skill_categories);
CREATE TABLE IF NOT EXISTS mcp.tool_skill_assignments_backup_0005 (LIKE mcp.tool_skill_assignments);
CREATE TABLE IF NOT EXISTS mcp.call_statistics_backup_0005 (LIKE mcp.call_statistics);

INSERT INTO mcp.servers_backup_0005 SELECT * FROM mcp.servers WHERE NOT is_global;
INSERT INTO mcp.tools_backup_0005 SELECT * FROM mcp.tools WHERE NOT is_global;
INSERT INTO mcp.prompts_backup_0005 SELECT * FROM mcp.prompts WHERE NOT is_global;
INSERT INTO mcp.resources_backup_0005 SELECT * FROM mcp.resources WHERE NOT is_global;
INSERT INTO mcp.resource_templates_backup_0005 SELECT * FROM mcp.resource_templates WHERE NOT is_global;
INSERT INTO mcp.skill_categories_backup_0005 SELECT * FROM mcp.skill_categories WHERE NOT is_global;
INSERT INTO mcp.tool_skill_assignments_backup_0005 SELECT * FROM mcp.tool_skill_assignments WHERE NOT is_global;
INSERT INTO mcp.call_statistics_backup_0005
SELECT used.* FROM mcp.call_statistics AS used JOIN mcp.tools ON tools.id = used.tool_id
WHERE used.org_id IS NOT NULL OR NOT tools.is_global;

-- 2. The index lets go of them

INSERT INTO mcp.outbox (kind, item_id, operation)
SELECT kind, id, 'delete'
FROM (
    SELECT 'tools' AS kind, id FROM mcp.tools WHERE NOT is_global
    UNION ALL SELECT 'prompts', id FROM mcp.prompts WHERE NOT is_global
    UNION ALL SELECT 'resources', id FROM mcp.resources WHERE NOT is_global
    UNION ALL SELECT 'templates', id FROM mcp.resource_templates WHERE NOT is_global
) AS kept
ON CONFLICT (kind, item_id) DO UPDATE
SET operation = EXCLUDED.operation, version = outbox.version + 1, due_at = now();

-- 3. The tables let go of them

DELETE FROM mcp.call_statistics WHERE org_id IS NOT NULL;
DELETE FROM mcp.tool_skill_assignments WHERE NOT is_global;
DELETE FROM mcp.skill_categories WHERE NOT is_global;
DELETE FROM mcp.resource_templates WHERE NOT is_global;
DELETE FROM mcp.resources WHERE NOT is_global;
DELETE FROM mcp.prompts WHERE NOT is_global;
DELETE FROM mcp.tools WHERE NOT is_global;
DELETE FROM mcp.servers WHERE NOT is_global;

-- 4. The columns go, and with them their indexes and checks

ALTER TABLE mcp.servers DROP COLUMN IF EXISTS org_id, DROP COLUMN IF EXISTS is_global;
ALTER TABLE mcp.tools DROP COLUMN IF EXISTS org_id, DROP COLUMN IF EXISTS is_global;
ALTER TABLE mcp.prompts DROP COLUMN IF EXISTS org_id, DROP COLUMN IF EXISTS is_global;
ALTER TABLE mcp.resources DROP COLUMN IF EXISTS org_id, DROP COLUMN IF EXISTS is_global;
ALTER TABLE mcp.resource_templates DROP COLUMN IF EXISTS org_id, DROP COLUMN IF EXISTS is_global;
ALTER TABLE mcp.skill_categories DROP COLUMN IF EXISTS org_id, DROP COLUMN IF EXISTS is_global;
ALTER TABLE mcp.tool_skill_assignments DROP COLUMN IF EXISTS org_id, DROP COLUMN IF EXISTS is_global;
ALTER TABLE mcp.call_statistics DROP COLUMN IF EXISTS org_id;

CREATE UNIQUE INDEX IF NOT EXISTS idx_servers_name ON mcp.servers (name);
CREATE UNIQUE INDEX IF NOT EXISTS idx_tools_name ON mcp.tools (name) WHERE hidden_at IS NULL;
CREATE UNIQUE INDEX IF NOT EXISTS idx_prompts_name ON mcp.prompts (name) WHERE hidden_at IS NULL;
CREATE UNIQUE INDEX IF NOT EXISTS idx_resources_name
    ON mcp.resources (name_hash) WHERE hidden_at IS NULL;
CREATE UNIQUE INDEX IF NOT EXISTS idx_resource_templates_name
    ON mcp.resource_templates (name_hash) WHERE hidden_at IS NULL;
CREATE UNIQUE INDEX IF NOT EXISTS idx_skill_categories_name ON mcp.skill_categories (name);
CREATE UNIQUE INDEX IF NOT EXISTS idx_tool_skill_assignments_primary
    ON mcp.tool_skill_assignments (tool_id) WHERE is_primary;
CREATE UNIQUE INDEX IF NOT EXISTS idx_call_statistics_tool ON mcp.call_statistics (tool_id);

ALTER TABLE IF EXISTS mcp.orgs RENAME TO orgs_backup_0005;
