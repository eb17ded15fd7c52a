-- Approvals: calls that a person has to agree to, each good for one call.
--
-- `call_hash` is the digest of who calls what with which arguments. A call has one open row at a
-- time; those that were used or have expired are kept for a while, to be looked at. `arguments` is
-- what the approver is shown: shortened, and without what looks secret.
--
-- `expires_at` is when a pending row stops waiting, and an approved or denied one stops counting.
-- `valid_for`, in seconds, and `four_eyes` are the policy's as it was when the call was made.
--
-- Way back: 0008_approvals.down.sql keeps the table as approvals_backup_0008.

ALTER TABLE IF EXISTS mcp.approvals_backup_0008 RENAME TO approvals;

CREATE TABLE IF NOT EXISTS mcp.approvals (
    id text PRIMARY KEY CHECK (id ~ '^[a-z0-9]{8}$'),
    org_id uuid REFERENCES mcp.orgs (id),
    call_hash bytea NOT NULL CHECK (octet_length(call_hash) = 32),
    subject text NOT NULL,
    user_name text,
    server text NOT NULL,
    tool text NOT NULL,
    arguments text NOT NULL,
    risk text NOT NULL CHECK (risk IN ('LOW', 'MEDIUM', 'HIGH')),
    state text NOT NULL DEFAULT 'pending'
        CHECK (state IN ('pending', 'approved', 'denied', 'used', 'expired')),
    four_eyes boolean NOT NULL,
    valid_for double precision NOT NULL CHECK (valid_for > 0),
    created_at timestamptz NOT NULL DEFAULT now(),
    expires_at timestamptz NOT NULL,
    decided_by text,
    decided_at timestamptz CHECK ((decided_at IS NULL) = (decided_by IS NULL)),
    used_at timestamptz CHECK ((used_at IS NOT NULL) = (state = 'used'))
);

CREATE UNIQUE INDEX IF NOT EXISTS idx_approvals_open ON mcp.approvals (call_hash)
    WHERE state IN ('pending', 'approved', 'denied');

CREATE INDEX IF NOT EXISTS idx_approvals_subject ON mcp.approvals (subject)
    WHERE state = 'pending';

CREATE INDEX IF NOT EXISTS idx_approvals_expiry ON mcp.approvals (expires_at);
