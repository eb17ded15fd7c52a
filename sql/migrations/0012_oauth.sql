-- Logins of people at the servers behind us (OAuth 2.1), as far as several processes have to know.
--
-- No row holds a secret. Tokens and client secrets are in the vault; of links, states and browsers
-- there is only the SHA-256. A login's `seed` makes the PKCE verifier together with the state, which
-- only the browser has: neither this database nor a log of URLs is enough for it.
--
-- Way back: 0012_oauth.down.sql keeps the tables as *_backup_0012, and this file takes them up again.

ALTER TABLE IF EXISTS mcp.oauth_registrations_backup_0012 RENAME TO oauth_registrations;
ALTER TABLE IF EXISTS mcp.oauth_logins_backup_0012 RENAME TO oauth_logins;
ALTER TABLE IF EXISTS mcp.oauth_grants_backup_0012 RENAME TO oauth_grants;

-- 1. As whom Trunkline is known to an authorization server, for one place it is returned to

CREATE TABLE IF NOT EXISTS mcp.oauth_registrations (
    issuer text NOT NULL,
    redirect_uri text NOT NULL,
    client_id text NOT NULL,
    auth_method text NOT NULL
        CHECK (auth_method IN ('none', 'client_secret_basic', 'client_secret_post')),
    expires_at timestamptz,
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (issuer, redirect_uri)
);

-- 2. Logins that are under way, and for a while those that have ended

CREATE TABLE IF NOT EXISTS mcp.oauth_logins (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    org_id uuid REFERENCES mcp.orgs (id) ON DELETE CASCADE,
    user_name text NOT NULL CHECK (char_length(user_name) BETWEEN 1 AND 255),
    server text NOT NULL CHECK (char_length(server) BETWEEN 1 AND 255),
    link bytea NOT NULL CHECK (octet_length(link) = 32),
    state bytea CHECK (octet_length(state) = 32),
    browser bytea CHECK (octet_length(browser) = 32),
    seed bytea CHECK (octet_length(seed) = 32),
    request json NOT NULL,
    expires_at timestamptz NOT NULL,
    used_at timestamptz,
    outcome text CHECK (outcome IN ('done', 'failed')),
    reason text NOT NULL DEFAULT '',
    created_at timestamptz NOT NULL DEFAULT now()
);

CREATE UNIQUE INDEX IF NOT EXISTS idx_oauth_logins_link ON mcp.oauth_logins (link);
CREATE UNIQUE INDEX IF NOT EXISTS idx_oauth_logins_state ON mcp.oauth_logins (state);
CREATE INDEX IF NOT EXISTS idx_oauth_logins_expires ON mcp.oauth_logins (expires_at);

-- 3. How somebody's token for a server is doing. `generation` counts the tokens there have been: who
-- holds an older one has not heard of the newest yet

CREATE TABLE IF NOT EXISTS mcp.oauth_grants (
    org_id uuid REFERENCES mcp.orgs (id) ON DELETE CASCADE,
    user_name text NOT NULL CHECK (char_length(user_name) BETWEEN 1 AND 255),
    server text NOT NULL CHECK (char_length(server) BETWEEN 1 AND 255),
    generation bigint NOT NULL DEFAULT 0,
    reason text NOT NULL DEFAULT '',
    refreshing_by text,
    refreshing_until timestamptz,
    updated_at timestamptz NOT NULL DEFAULT now()
);

CREATE UNIQUE INDEX IF NOT EXISTS idx_oauth_grants_whose ON mcp.oauth_grants
    ((coalesce(org_id, '00000000-0000-0000-0000-000000000000')), user_name, server);
