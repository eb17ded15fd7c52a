-- Who did what: rows that are only ever added.
--
-- A row belongs to the chain of the process that wrote it, at a place of its own, and its hash covers
-- the row before it: see security/audit_chain.py. An organisation is kept by name, without a
-- reference: what it did is told also when it is gone, and so is a name that was only tried.
--
-- A trigger refuses every change. A row goes by age alone: to whom has set `trunkline.audit_expiry`,
-- which is the expiry of old rows, and never within its first day.
--
-- Way back: 0010_audit.down.sql keeps the table, with its trigger, as audit_backup_0010.

ALTER TABLE IF EXISTS mcp.audit_backup_0010 RENAME TO audit;

CREATE TABLE IF NOT EXISTS mcp.audit (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    chain uuid NOT NULL,
    place bigint NOT NULL CHECK (place > 0),
    hash bytea NOT NULL CHECK (octet_length(hash) = 32),
    at timestamptz NOT NULL,
    request text,
    subject text,
    user_name text,
    org text,
    role text,
    face text NOT NULL,
    action text NOT NULL,
    server text,
    own_name text,
    name text,
    arguments_hash bytea CHECK (octet_length(arguments_hash) = 32),
    arguments json,
    outcome text NOT NULL CHECK (outcome IN ('ok', 'tool_error', 'denied', 'failed', 'cancelled')),
    code text,
    duration_ms double precision,
    causes json
);

CREATE UNIQUE INDEX IF NOT EXISTS idx_audit_chain ON mcp.audit (chain, place);
CREATE INDEX IF NOT EXISTS idx_audit_at ON mcp.audit (at);
CREATE INDEX IF NOT EXISTS idx_audit_org ON mcp.audit (org, id);

-- In one string, where `\x3b` is a semicolon: one that stands as such ends a statement of this file.
DO E'BEGIN
CREATE OR REPLACE FUNCTION mcp.refuse_audit_change() RETURNS trigger LANGUAGE plpgsql AS $body$ BEGIN
    IF TG_OP = ''DELETE'' AND current_setting(''trunkline.audit_expiry'', true) = ''on''
        AND OLD.at < now() - interval ''1 day'' THEN RETURN OLD\x3b END IF\x3b
    RAISE EXCEPTION ''The audit is only ever added to.'' USING ERRCODE = ''restrict_violation''\x3b
    RETURN NULL\x3b END $body$\x3b
CREATE OR REPLACE TRIGGER audit_only_added_to BEFORE UPDATE OR DELETE ON mcp.audit
    FOR EACH ROW EXECUTE FUNCTION mcp.refuse_audit_change()\x3b
CREATE OR REPLACE TRIGGER audit_never_emptied BEFORE TRUNCATE ON mcp.audit
    FOR EACH STATEMENT EXECUTE FUNCTION mcp.refuse_audit_change()\x3b END';
