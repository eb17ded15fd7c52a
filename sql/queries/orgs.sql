-- Organisations. Who may add one is not decided here.

-- name: put
-- $1 name
-- The organisation of that name, made if there is none. Writing the name it has makes the row
-- come back either way.
INSERT INTO mcp.orgs (name) VALUES ($1)
ON CONFLICT (name) DO UPDATE SET name = EXCLUDED.name
RETURNING id;

-- name: find
-- $1 name
SELECT id FROM mcp.orgs WHERE name = $1;

-- name: list_all
SELECT name, id FROM mcp.orgs ORDER BY name;
