-- The catalog: servers, and what they offer.
--
-- `name` is the one an item is served under; `own_name` is its server's own, of any length, and
-- is found by its hash, because a btree takes no key beyond 2,700 bytes. A definition is json and
-- not jsonb: jsonb sorts the keys and refuses \u0000, and what a server said is passed on as said.
-- `hidden_at` is the first half of a delete: the item is gone for everybody, and the row goes when
-- the index has let go of it. The sequences end where a point id would meet the next type's range.
--
-- Way back: 0001_catalog.down.sql keeps the tables, data and all, as *_backup_0001.

ALTER TABLE IF EXISTS mcp.servers_backup_0001 RENAME TO servers;
ALTER TABLE IF EXISTS mcp.tools_backup_0001 RENAME TO tools;
ALTER TABLE IF EXISTS mcp.prompts_backup_0001 RENAME TO prompts;
ALTER TABLE IF EXISTS mcp.resources_backup_0001 RENAME TO resources;
ALTER TABLE IF EXISTS mcp.resource_templates_backup_0001 RENAME TO resource_templates;

CREATE SEQUENCE IF NOT EXISTS mcp.servers_id_seq AS integer;
CREATE SEQUENCE IF NOT EXISTS mcp.tools_id_seq AS integer MAXVALUE 999999;
CREATE SEQUENCE IF NOT EXISTS mcp.prompts_id_seq AS integer MAXVALUE 999999;
-- Templates share the range of the resources, and so their sequence.
CREATE SEQUENCE IF NOT EXISTS mcp.resources_id_seq AS integer MAXVALUE 999999;

CREATE TABLE IF NOT EXISTS mcp.servers (
    id integer PRIMARY KEY DEFAULT nextval('mcp.servers_id_seq'),
    name text NOT NULL CHECK (char_length(name) BETWEEN 1 AND 255),
    origin text NOT NULL CHECK (origin IN ('file', 'api', 'plugin')),
    config json NOT NULL DEFAULT '{}',
    about json NOT NULL DEFAULT '{}',
    position integer NOT NULL DEFAULT 0,
    hidden_at timestamptz,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE IF NOT EXISTS mcp.tools (
    id integer PRIMARY KEY DEFAULT nextval('mcp.tools_id_seq'),
    source_server_id integer NOT NULL REFERENCES mcp.servers (id) ON DELETE CASCADE,
    own_name text NOT NULL,
    own_hash bytea NOT NULL CHECK (octet_length(own_hash) = 32),
    name text NOT NULL CHECK (char_length(name) BETWEEN 1 AND 64),
    name_hash bytea NOT NULL CHECK (octet_length(name_hash) = 32),
    definition json NOT NULL,
    content_hash bytea NOT NULL CHECK (octet_length(content_hash) = 32),
    position integer NOT NULL,
    hidden_at timestamptz,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE IF NOT EXISTS mcp.prompts (
    id integer PRIMARY KEY DEFAULT nextval('mcp.prompts_id_seq'),
    source_server_id integer NOT NULL REFERENCES mcp.servers (id) ON DELETE CASCADE,
    own_name text NOT NULL,
    own_hash bytea NOT NULL CHECK (octet_length(own_hash) = 32),
    name text NOT NULL CHECK (char_length(name) BETWEEN 1 AND 64),
    name_hash bytea NOT NULL CHECK (octet_length(name_hash) = 32),
    definition json NOT NULL,
    content_hash bytea NOT NULL CHECK (octet_length(content_hash) = 32),
    position integer NOT NULL,
    hidden_at timestamptz,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE IF NOT EXISTS mcp.resources (
    id integer PRIMARY KEY DEFAULT nextval('mcp.resources_id_seq'),
    source_server_id integer NOT NULL REFERENCES mcp.servers (id) ON DELETE CASCADE,
    own_name text NOT NULL,
    own_hash bytea NOT NULL CHECK (octet_length(own_hash) = 32),
    name text NOT NULL CHECK (name <> ''),
    name_hash bytea NOT NULL CHECK (octet_length(name_hash) = 32),
    definition json NOT NULL,
    content_hash bytea NOT NULL CHECK (octet_length(content_hash) = 32),
    position integer NOT NULL,
    hidden_at timestamptz,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE IF NOT EXISTS mcp.resource_templates (
    id integer PRIMARY KEY DEFAULT nextval('mcp.resources_id_seq'),
    source_server_id integer NOT NULL REFERENCES mcp.servers (id) ON DELETE CASCADE,
    own_name text NOT NULL,
    own_hash bytea NOT NULL CHECK (octet_length(own_hash) = 32),
    name text NOT NULL CHECK (name <> ''),
    name_hash bytea NOT NULL CHECK (octet_length(name_hash) = 32),
    definition json NOT NULL,
    content_hash bytea NOT NULL CHECK (octet_length(content_hash) = 32),
    position integer NOT NULL,
    hidden_at timestamptz,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now()
);

-- An item is known by its server and its own name, hidden or not: what comes back keeps its id.
CREATE UNIQUE INDEX IF NOT EXISTS idx_tools_own ON mcp.tools (source_server_id, own_hash);
CREATE UNIQUE INDEX IF NOT EXISTS idx_prompts_own ON mcp.prompts (source_server_id, own_hash);
CREATE UNIQUE INDEX IF NOT EXISTS idx_resources_own ON mcp.resources (source_server_id, own_hash);
CREATE UNIQUE INDEX IF NOT EXISTS idx_resource_templates_own
    ON mcp.resource_templates (source_server_id, own_hash);

-- A name belongs to one item. A hidden one has given it up.
CREATE UNIQUE INDEX IF NOT EXISTS idx_servers_name ON mcp.servers (name);
CREATE UNIQUE INDEX IF NOT EXISTS idx_tools_name ON mcp.tools (name) WHERE hidden_at IS NULL;
CREATE UNIQUE INDEX IF NOT EXISTS idx_prompts_name ON mcp.prompts (name) WHERE hidden_at IS NULL;
CREATE UNIQUE INDEX IF NOT EXISTS idx_resources_name
    ON mcp.resources (name_hash) WHERE hidden_at IS NULL;
CREATE UNIQUE INDEX IF NOT EXISTS idx_resource_templates_name
    ON mcp.resource_templates (name_hash) WHERE hidden_at IS NULL;
