-- Skills: what tools are good for, in groups that search can go through first.
--
-- Way back: 0002_skills.down.sql keeps the tables as *_backup_0002.

ALTER TABLE IF EXISTS mcp.skill_categories_backup_0002 RENAME TO skill_categories;
ALTER TABLE IF EXISTS mcp.tool_skill_assignments_backup_0002 RENAME TO tool_skill_assignments;

CREATE SEQUENCE IF NOT EXISTS mcp.skill_categories_id_seq AS integer MAXVALUE 999999;

CREATE TABLE IF NOT EXISTS mcp.skill_categories (
    id integer PRIMARY KEY DEFAULT nextval('mcp.skill_categories_id_seq'),
    name text NOT NULL CHECK (char_length(name) BETWEEN 1 AND 255),
    description text NOT NULL DEFAULT '',
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE IF NOT EXISTS mcp.tool_skill_assignments (
    tool_id integer NOT NULL REFERENCES mcp.tools (id) ON DELETE CASCADE,
    skill_id integer NOT NULL REFERENCES mcp.skill_categories (id) ON DELETE CASCADE,
    confidence real NOT NULL CHECK (confidence BETWEEN 0 AND 1),
    is_primary boolean NOT NULL DEFAULT FALSE,
    assigned_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tool_id, skill_id)
);

CREATE UNIQUE INDEX IF NOT EXISTS idx_skill_categories_name ON mcp.skill_categories (name);
CREATE UNIQUE INDEX IF NOT EXISTS idx_tool_skill_assignments_primary
    ON mcp.tool_skill_assignments (tool_id) WHERE is_primary;
CREATE INDEX IF NOT EXISTS idx_tool_skill_assignments_skill
    ON mcp.tool_skill_assignments (skill_id);
