-- The vault: credentials of people for servers behind us, which the database itself cannot read.
--
-- `sealed` is the secret under a key of its own, and `wrapped_key` is that key under the master key
-- that `key_id` names. Both are bound to org_id, user_name and name: a row that was moved to another
-- owner does not open.
--
-- Way back: 0011_vault.down.sql keeps the table as vault_backup_0011.

ALTER TABLE IF EXISTS mcp.vault_backup_0011 RENAME TO vault;

CREATE TABLE IF NOT EXISTS mcp.vault (
    org_id uuid REFERENCES mcp.orgs (id),
    user_name text NOT NULL CHECK (char_length(user_name) BETWEEN 1 AND 255),
    name text NOT NULL CHECK (char_length(name) BETWEEN 1 AND 255),
    key_id text NOT NULL,
    wrapped_key bytea NOT NULL,
    sealed bytea NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now()
);

CREATE UNIQUE INDEX IF NOT EXISTS idx_vault_owner ON mcp.vault
    (coalesce(org_id, '00000000-0000-0000-0000-000000000000'), user_name, name);

CREATE INDEX IF NOT EXISTS idx_vault_key ON mcp.vault (key_id);
