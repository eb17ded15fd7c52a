-- API keys: who may come in, and as whom. A secret is not here, only its SHA-256.
--
-- `org_id` is the organisation a key acts in; a key without one sees what is global. `authorized_orgs`
-- are the names of those it may switch to. After a rotation `old_hash` is the secret before, which
-- is good until `old_until`. A revoked key keeps its row: the audit names it, and once there has been
-- a key nobody comes in without one.
--
-- Way back: 0007_keys.down.sql keeps the table as keys_backup_0007.

ALTER TABLE IF EXISTS mcp.keys_backup_0007 RENAME TO keys;

CREATE TABLE IF NOT EXISTS mcp.keys (
    id text PRIMARY KEY CHECK (id ~ '^[a-z0-9]{12}$'),
    org_id uuid REFERENCES mcp.orgs (id),
    name text NOT NULL CHECK (char_length(name) BETWEEN 1 AND 255),
    user_name text CHECK (char_length(user_name) BETWEEN 1 AND 255),
    role text NOT NULL CHECK (role IN ('user', 'operator', 'admin')),
    allow text[] NOT NULL,
    deny text[] NOT NULL,
    authorized_orgs text[] NOT NULL,
    secret_hash bytea NOT NULL CHECK (octet_length(secret_hash) = 32),
    old_hash bytea CHECK (octet_length(old_hash) = 32),
    old_until timestamptz,
    expires_at timestamptz,
    created_at timestamptz NOT NULL DEFAULT now(),
    last_used_at timestamptz,
    revoked_at timestamptz,
    CHECK ((old_hash IS NULL) = (old_until IS NULL))
);

-- A revoked key has given up its name.
CREATE UNIQUE INDEX IF NOT EXISTS idx_keys_name_global
    ON mcp.keys (name) WHERE org_id IS NULL AND revoked_at IS NULL;
CREATE UNIQUE INDEX IF NOT EXISTS idx_keys_name_org
    ON mcp.keys (name, org_id) WHERE org_id IS NOT NULL AND revoked_at IS NULL;
