-- What the index has to be told, and the vectors it need not have made twice.
--
-- The outbox has one row for each item the index is behind on, not one for each change: the worker
-- looks at the item as it is now. `version` counts the changes, so that a worker who was overtaken
-- does not strike off what it has not seen; `claim` is the worker's, until `due_at`.
--
-- A vector is kept by the text it was made of. It is little-endian float32, one after the other.
--
-- Way back: 0003_outbox.down.sql keeps the tables as *_backup_0003.

ALTER TABLE IF EXISTS mcp.outbox_backup_0003 RENAME TO outbox;
ALTER TABLE IF EXISTS mcp.embeddings_backup_0003 RENAME TO embeddings;

CREATE TABLE IF NOT EXISTS mcp.outbox (
    kind text NOT NULL CHECK (kind IN ('tools', 'prompts', 'resources', 'templates')),
    item_id integer NOT NULL,
    operation text NOT NULL CHECK (operation IN ('upsert', 'delete')),
    version bigint NOT NULL DEFAULT 1,
    claim uuid,
    attempts integer NOT NULL DEFAULT 0,
    last_error text,
    due_at timestamptz NOT NULL DEFAULT now(),
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (kind, item_id)
);

CREATE TABLE IF NOT EXISTS mcp.embeddings (
    model text NOT NULL,
    content_hash bytea NOT NULL CHECK (octet_length(content_hash) = 32),
    vector bytea NOT NULL CHECK (octet_length(vector) % 4 = 0),
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (model, content_hash)
);

CREATE INDEX IF NOT EXISTS idx_outbox_due ON mcp.outbox (due_at);
