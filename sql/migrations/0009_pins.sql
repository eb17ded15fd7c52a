-- Pins: what each tool was when it was accepted, and what it has become since.
--
-- A tool is known by whose server it is, the server's name and its own name there. No reference to
-- mcp.servers: a pin is made before its server is stored, and outlives it, so that a server that
-- is taken away and added again under its name is compared with what it was. `accepted_by` is null
-- while nobody has looked: the tool was taken as it was first seen. Definitions are json for the
-- reason given in 0001; what is hashed is their canonical form, which is the program's.
--
-- Way back: 0009_pins.down.sql keeps the table as pins_backup_0009.

ALTER TABLE IF EXISTS mcp.pins_backup_0009 RENAME TO pins;

CREATE TABLE IF NOT EXISTS mcp.pins (
    org_id uuid REFERENCES mcp.orgs (id),
    server text NOT NULL CHECK (char_length(server) BETWEEN 1 AND 255),
    own_name text NOT NULL,
    own_hash bytea NOT NULL CHECK (octet_length(own_hash) = 32),
    accepted json NOT NULL,
    accepted_hash bytea NOT NULL CHECK (octet_length(accepted_hash) = 32),
    accepted_by text,
    accepted_at timestamptz NOT NULL DEFAULT now(),
    is_late boolean NOT NULL DEFAULT FALSE,
    pending json,
    pending_hash bytea CHECK (octet_length(pending_hash) = 32),
    pending_since timestamptz,
    CHECK ((pending IS NULL) = (pending_hash IS NULL)),
    CHECK ((pending_since IS NULL) = (pending_hash IS NULL)),
    CHECK (pending_hash <> accepted_hash)
);

-- One expression and not two indexes: it is what ON CONFLICT has to name.
CREATE UNIQUE INDEX IF NOT EXISTS idx_pins_tool ON mcp.pins
    ((coalesce(org_id, '00000000-0000-0000-0000-000000000000')), server, own_hash);
