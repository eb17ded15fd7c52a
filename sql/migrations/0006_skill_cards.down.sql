-- Back to skills without cards. The skills stay, as they are told by their name and description; the
-- columns are kept in skill_categories_backup_0006, and 0006 takes them up again.

CREATE TABLE IF NOT EXISTS mcp.skill_categories_backup_0006 (
    id integer PRIMARY KEY, group_name text NOT NULL, keywords text[] NOT NULL
);

INSERT INTO mcp.skill_categories_backup_0006
SELECT id, group_name, keywords FROM mcp.skill_categories
ON CONFLICT (id) DO UPDATE SET group_name = EXCLUDED.group_name, keywords = EXCLUDED.keywords;

ALTER TABLE mcp.skill_categories DROP COLUMN IF EXISTS group_name, DROP COLUMN IF EXISTS keywords;
