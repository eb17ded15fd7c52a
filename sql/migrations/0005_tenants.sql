-- Tenants: whose a row is. `org_id` names its organisation; a global row has none and is everybody's.
--
-- What is there becomes global, which is what it was. Names become unique within their scope.
-- Statistics are kept by the organisation that called, so that nobody reads another's use of a
-- tool they share: there `org_id` is the caller's, and there is no `is_global`.
--
-- Way back: 0005_tenants.down.sql keeps the rows of organisations in *_backup_0005, and this file
-- takes them up again.

ALTER TABLE IF EXISTS mcp.orgs_backup_0005 RENAME TO orgs;

CREATE TABLE IF NOT EXISTS mcp.orgs (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    name text NOT NULL CHECK (char_length(name) BETWEEN 1 AND 255),
    created_at timestamptz NOT NULL DEFAULT now()
);

CREATE UNIQUE INDEX IF NOT EXISTS idx_orgs_name ON mcp.orgs (name);

-- 1. Columns with safe defaults

ALTER TABLE mcp.servers
    ADD COLUMN IF NOT EXISTS org_id uuid REFERENCES mcp.orgs (id),
    ADD COLUMN IF NOT EXISTS is_global boolean DEFAULT TRUE CHECK (is_global = (org_id IS NULL));
ALTER TABLE mcp.tools
    ADD COLUMN IF NOT EXISTS org_id uuid REFERENCES mcp.orgs (id),
    ADD COLUMN IF NOT EXISTS is_global boolean DEFAULT TRUE CHECK (is_global = (org_id IS NULL));
ALTER TABLE mcp.prompts
    ADD COLUMN IF NOT EXISTS org_id uuid REFERENCES mcp.orgs (id),
    ADD COLUMN IF NOT EXISTS is_global boolean DEFAULT TRUE CHECK (is_global = (org_id IS NULL));
ALTER TABLE mcp.resources
    ADD COLUMN IF NOT EXISTS org_id uuid REFERENCES mcp.orgs (id),
    ADD COLUMN IF NOT EXISTS is_global boolean DEFAULT TRUE CHECK (is_global = (org_id IS NULL));
ALTER TABLE mcp.resource_templates
    ADD COLUMN IF NOT EXISTS org_id uuid REFERENCES mcp.orgs (id),
    ADD COLUMN IF NOT EXISTS is_global boolean DEFAULT TRUE CHECK (is_global = (org_id IS NULL));
ALTER TABLE mcp.skill_categories
    ADD COLUMN IF NOT EXISTS org_id uuid REFERENCES mcp.orgs (id),
    ADD COLUMN IF NOT EXISTS is_global boolean DEFAULT TRUE CHECK (is_global = (org_id IS NULL));
ALTER TABLE mcp.tool_skill_assignments
    ADD COLUMN IF NOT EXISTS org_id uuid REFERENCES mcp.orgs (id),
    ADD COLUMN IF NOT EXISTS is_global boolean DEFAULT TRUE CHECK (is_global = (org_id IS NULL));
ALTER TABLE mcp.call_statistics
    ADD COLUMN IF NOT EXISTS org_id uuid REFERENCES mcp.orgs (id);

-- 2. Existing rows are global

UPDATE mcp.servers SET is_global = TRUE WHERE is_global IS NULL;
UPDATE mcp.tools SET is_global = TRUE WHERE is_global IS NULL;
UPDATE mcp.prompts SET is_global = TRUE WHERE is_global IS NULL;
UPDATE mcp.resources SET is_global = TRUE WHERE is_global IS NULL;
UPDATE mcp.resource_templates SET is_global = TRUE WHERE is_global IS NULL;
UPDATE mcp.skill_categories SET is_global = TRUE WHERE is_global IS NULL;
UPDATE mcp.tool_skill_assignments SET is_global = TRUE WHERE is_global IS NULL;

ALTER TABLE mcp.servers ALTER COLUMN is_global SET NOT NULL;
ALTER TABLE mcp.tools ALTER COLUMN is_global SET NOT NULL;
ALTER TABLE mcp.prompts ALTER COLUMN is_global SET NOT NULL;
ALTER TABLE mcp.resources ALTER COLUMN is_global SET NOT NULL;
ALTER TABLE mcp.resource_templates ALTER COLUMN is_global SET NOT NULL;
ALTER TABLE mcp.skill_categories ALTER COLUMN is_global SET NOT NULL;
ALTER TABLE mcp.tool_skill_assignments ALTER COLUMN is_global SET NOT NULL;

-- 3. Names are unique within their scope

DROP INDEX IF EXISTS mcp.idx_servers_name;
DROP INDEX IF EXISTS mcp.idx_tools_name;
DROP INDEX IF EXISTS mcp.idx_prompts_name;
DROP INDEX IF EXISTS mcp.idx_resources_name;
DROP INDEX IF EXISTS mcp.idx_resource_templates_name;
DROP INDEX IF EXISTS mcp.idx_skill_categories_name;
DROP INDEX IF EXISTS mcp.idx_tool_skill_assignments_primary;
DROP INDEX IF EXISTS mcp.idx_call_statistics_tool;

-- A hidden server keeps its name: it comes back under it, with its id and those of its items.
CREATE UNIQUE INDEX IF NOT EXISTS idx_servers_name_global
    ON mcp.servers (name) WHERE is_global = TRUE;
CREATE UNIQUE INDEX IF NOT EXISTS idx_servers_name_org
    ON mcp.servers (name, org_id) WHERE is_global = FALSE;
-- A hidden item has given up its name.
CREATE UNIQUE INDEX IF NOT EXISTS idx_tools_name_global
    ON mcp.tools (name) WHERE is_global = TRUE AND hidden_at IS NULL;
CREATE UNIQUE INDEX IF NOT EXISTS idx_tools_name_org
    ON mcp.tools (name, org_id) WHERE is_global = FALSE AND hidden_at IS NULL;
CREATE UNIQUE INDEX IF NOT EXISTS idx_prompts_name_global
    ON mcp.prompts (name) WHERE is_global = TRUE AND hidden_at IS NULL;
CREATE UNIQUE INDEX IF NOT EXISTS idx_prompts_name_org
    ON mcp.prompts (name, org_id) WHERE is_global = FALSE AND hidden_at IS NULL;
CREATE UNIQUE INDEX IF NOT EXISTS idx_resources_name_global
    ON mcp.resources (name_hash) WHERE is_global = TRUE AND hidden_at IS NULL;
CREATE UNIQUE INDEX IF NOT EXISTS idx_resources_name_org
    ON mcp.resources (name_hash, org_id) WHERE is_global = FALSE AND hidden_at IS NULL;
CREATE UNIQUE INDEX IF NOT EXISTS idx_resource_templates_name_global
    ON mcp.resource_templates (name_hash) WHERE is_global = TRUE AND hidden_at IS NULL;
CREATE UNIQUE INDEX IF NOT EXISTS idx_resource_templates_name_org
    ON mcp.resource_templates (name_hash, org_id) WHERE is_global = FALSE AND hidden_at IS NULL;
CREATE UNIQUE INDEX IF NOT EXISTS idx_skill_categories_name_global
    ON mcp.skill_categories (name) WHERE is_global = TRUE;
CREATE UNIQUE INDEX IF NOT EXISTS idx_skill_categories_name_org
    ON mcp.skill_categories (name, org_id) WHERE is_global = FALSE;
CREATE UNIQUE INDEX IF NOT EXISTS idx_tool_skill_assignments_primary_global
    ON mcp.tool_skill_assignments (tool_id) WHERE is_global = TRUE AND is_primary;
CREATE UNIQUE INDEX IF NOT EXISTS idx_tool_skill_assignments_primary_org
    ON mcp.tool_skill_assignments (tool_id, org_id) WHERE is_global = FALSE AND is_primary;
-- One expression and not two indexes: it is what ON CONFLICT has to name.
CREATE UNIQUE INDEX IF NOT EXISTS idx_call_statistics_tool_org
    ON mcp.call_statistics (tool_id, (coalesce(org_id, '00000000-0000-0000-0000-000000000000')));

-- 4. The tenant filter

CREATE INDEX IF NOT EXISTS idx_servers_tenant ON mcp.servers (org_id, is_global);
CREATE INDEX IF NOT EXISTS idx_tools_tenant ON mcp.tools (org_id, is_global);
CREATE INDEX IF NOT EXISTS idx_prompts_tenant ON mcp.prompts (org_id, is_global);
CREATE INDEX IF NOT EXISTS idx_resources_tenant ON mcp.resources (org_id, is_global);
CREATE INDEX IF NOT EXISTS idx_resource_templates_tenant ON mcp.resource_templates (org_id, is_global);
CREATE INDEX IF NOT EXISTS idx_skill_categories_tenant ON mcp.skill_categories (org_id, is_global);
CREATE INDEX IF NOT EXISTS idx_tool_skill_assignments_tenant ON mcp.tool_skill_assignments (org_id, is_global);

-- 5. Rows that the way back put aside

CREATE TABLE IF NOT EXISTS mcp.servers_backup_0005 (LIKE mcp.servers);
CREATE TABLE IF NOT EXISTS mcp.tools_backup_0005 (LIKE mcp.tools);
CREATE TABLE IF NOT EXISTS mcp.prompts_backup_0005 (LIKE mcp.prompts);
CREATE TABLE IF NOT EXISTS mcp.resources_backup_0005 (LIKE mcp.resources);
CREATE TABLE IF NOT EXISTS mcp.resource_templates_backup_0005 (LIKE mcp.resource_templates);
CREATE TABLE IF NOT EXISTS mcp.skill_categories_backup_0005 (LIKE mcp.skill_categories);
CREATE TABLE IF NOT EXISTS mcp.tool_skill_assignments_backup_0005 (LIKE mcp.tool_skill_assignments);
CREATE TABLE IF NOT EXISTS mcp.call_statistics_backup_0005 (LIKE mcp.call_statistics);

INSERT INTO mcp.servers SELECT * FROM mcp.servers_backup_0005 ON CONFLICT DO NOTHING;
INSERT INTO mcp.tools SELECT * FROM mcp.tools_backup_0005 ON CONFLICT DO NOTHING;
INSERT INTO mcp.prompts SELECT * FROM mcp.prompts_backup_0005 ON CONFLICT DO NOTHING;
INSERT INTO mcp.resources SELECT * FROM mcp.resources_backup_0005 ON CONFLICT DO NOTHING;
INSERT INTO mcp.resource_templates SELECT * FROM mcp.resource_templates_backup_0005 ON CONFLICT DO NOTHING;
INSERT INTO mcp.skill_categories SELECT * FROM mcp.skill_categories_backup_0005 ON CONFLICT DO NOTHING;
INSERT INTO mcp.tool_skill_assignments
SELECT * FROM mcp.tool_skill_assignments_backup_0005 AS kept
WHERE EXISTS (SELECT FROM mcp.tools WHERE tools.id = kept.tool_id)
ON CONFLICT DO NOTHING;
INSERT INTO mcp.call_statistics
SELECT * FROM mcp.call_statistics_backup_0005 AS kept
WHERE EXISTS (SELECT FROM mcp.tools WHERE tools.id = kept.tool_id)
ON CONFLICT DO NOTHING;

-- The index has to have them back, too.
INSERT INTO mcp.outbox (kind, item_id, operation)
SELECT kind, id, CASE WHEN hidden_at IS NULL THEN 'upsert' ELSE 'delete' END
FROM (
    SELECT 'tools' AS kind, id, hidden_at FROM mcp.tools_backup_0005
    UNION ALL SELECT 'prompts', id, hidden_at FROM mcp.prompts_backup_0005
    UNION ALL SELECT 'resources', id, hidden_at FROM mcp.resources_backup_0005
    UNION ALL SELECT 'templates', id, hidden_at FROM mcp.resource_templates_backup_0005
) AS kept
ON CONFLICT (kind, item_id) DO UPDATE
SET operation = EXCLUDED.operation, version = outbox.version + 1, due_at = now();

DROP TABLE IF EXISTS mcp.servers_backup_0005;
DROP TABLE IF EXISTS mcp.tools_backup_0005;
DROP TABLE IF EXISTS mcp.prompts_backup_0005;
DROP TABLE IF EXISTS mcp.resources_backup_0005;
DROP TABLE IF EXISTS mcp.resource_templates_backup_0005;
DROP TABLE IF EXISTS mcp.skill_categories_backup_0005;
DROP TABLE IF EXISTS mcp.tool_skill_assignments_backup_0005;
DROP TABLE IF EXISTS mcp.call_statistics_backup_0005;
