-- Skills and what belongs to them. An organisation sees its own and the global ones, and changes
-- its own; an assignment belongs to whom its skill belongs to.

-- name: put
-- $1 org id, $2 name, $3 description, $4 group, $5 keywords
-- Adds a skill or changes its card. What is the same is not written, and draws no id.
WITH there AS (
    SELECT id, description, group_name, keywords FROM mcp.skill_categories
    WHERE name = $2 AND org_id IS NOT DISTINCT FROM $1 FOR UPDATE
), changed AS (
    UPDATE mcp.skill_categories AS skill
    SET description = $3, group_name = $4, keywords = $5, updated_at = now()
    FROM there WHERE skill.id = there.id
      AND (there.description, there.group_name, there.keywords) <> ($3, $4, $5)
), added AS (
    INSERT INTO mcp.skill_categories (name, description, group_name, keywords, org_id, is_global)
    SELECT $2, $3, $4, $5, $1, $1::uuid IS NULL WHERE NOT EXISTS (SELECT FROM there)
    RETURNING id
)
SELECT id FROM there UNION ALL SELECT id FROM added;

-- name: list_visible
-- $1 org id
SELECT id, org_id, name, description, group_name, keywords FROM mcp.skill_categories
WHERE is_global OR org_id = $1 ORDER BY name, is_global;

-- name: list_effective
-- $1 org id
-- One skill of each name: the organisation's own where it has one, else the global one.
SELECT DISTINCT ON (name) id, org_id, name, description, group_name, keywords
FROM mcp.skill_categories
WHERE is_global OR org_id = $1 ORDER BY name, is_global;

-- name: delete
-- $1 org id, $2 skill id
-- Deletes a skill with its assignments and returns the tools that had it; none if it is not the
-- organisation's own.
WITH owned AS (
    SELECT id FROM mcp.skill_categories
    WHERE id = $2 AND org_id IS NOT DISTINCT FROM $1 FOR UPDATE
), released AS (
    DELETE FROM mcp.tool_skill_assignments AS assigned USING owned
    WHERE assigned.skill_id = owned.id RETURNING assigned.tool_id
), gone AS (
    DELETE FROM mcp.skill_categories AS skill USING owned WHERE skill.id = owned.id
)
SELECT tool_id FROM released ORDER BY tool_id;

-- name: lock_scope
-- $1 org id
-- Assignments of one scope are made one after the other, until the end of the transaction.
SELECT pg_advisory_xact_lock(
    hashtextextended('mcp.tool_skill_assignments ' || coalesce($1::uuid::text, ''), 0)
);

-- name: assign
-- $1 org id, $2 skill id, $3 tool ids, $4 confidences, $5 which are primary
-- Puts tools into an organisation's own skill, and returns those it may see and are now in it. A
-- tool has one primary skill within a scope: another one that was it, is it no more.
WITH skill AS (
    SELECT id FROM mcp.skill_categories
    WHERE id = $2 AND org_id IS NOT DISTINCT FROM $1 FOR UPDATE
), new AS (
    SELECT tool.id AS tool_id, wanted.confidence, wanted.is_primary
    FROM unnest($3::integer[], $4::real[], $5::boolean[]) AS wanted (id, confidence, is_primary)
    JOIN mcp.tools AS tool ON tool.id = wanted.id
    WHERE tool.hidden_at IS NULL AND (tool.is_global OR tool.org_id = $1)
)
INSERT INTO mcp.tool_skill_assignments
    (tool_id, skill_id, confidence, is_primary, org_id, is_global)
SELECT new.tool_id, skill.id, new.confidence, new.is_primary, $1, $1::uuid IS NULL
FROM new, skill ORDER BY new.tool_id
ON CONFLICT (tool_id, skill_id) DO UPDATE
SET confidence = EXCLUDED.confidence, is_primary = EXCLUDED.is_primary, assigned_at = now()
RETURNING tool_id;

-- name: yield_primary
-- $1 org id, $2 skill id, $3 tool ids
-- Takes the primary mark of these tools from every other skill of the scope, before one is given it.
UPDATE mcp.tool_skill_assignments SET is_primary = FALSE
WHERE tool_id = ANY($3::integer[]) AND skill_id <> $2 AND is_primary
  AND org_id IS NOT DISTINCT FROM $1
  AND EXISTS (
      SELECT FROM mcp.skill_categories WHERE id = $2 AND org_id IS NOT DISTINCT FROM $1
  );

-- name: of_tools
-- $1 org id, $2 tool ids
SELECT assigned.tool_id, assigned.skill_id, assigned.confidence, assigned.is_primary
FROM mcp.tool_skill_assignments AS assigned JOIN mcp.tools AS tool ON tool.id = assigned.tool_id
WHERE assigned.tool_id = ANY($2::integer[]) AND tool.hidden_at IS NULL
  AND (assigned.is_global OR assigned.org_id = $1) AND (tool.is_global OR tool.org_id = $1)
ORDER BY assigned.tool_id, assigned.confidence DESC, assigned.skill_id;

-- name: clear
-- $1 org id, $2 tool ids
-- Takes the tools of this scope, and no others, out of the skills that this scope put them in.
DELETE FROM mcp.tool_skill_assignments AS assigned USING mcp.tools AS tool
WHERE assigned.tool_id = tool.id AND tool.id = ANY($2::integer[])
  AND tool.org_id IS NOT DISTINCT FROM $1 AND assigned.org_id IS NOT DISTINCT FROM $1;

-- name: classify
-- $1 org id, $2 tool ids, $3 skill ids, $4 confidences, $5 which are primary
-- Puts tools of this scope into skills that it may see, its own or global ones, and returns how many
-- assignments that made. The assignments belong to whom the tools belong to.
WITH made AS (
    INSERT INTO mcp.tool_skill_assignments
        (tool_id, skill_id, confidence, is_primary, org_id, is_global)
    SELECT tool.id, skill.id, wanted.confidence, wanted.is_primary, $1, $1::uuid IS NULL
    FROM unnest($2::integer[], $3::integer[], $4::real[], $5::boolean[])
        AS wanted (tool_id, skill_id, confidence, is_primary)
    JOIN mcp.tools AS tool
        ON tool.id = wanted.tool_id AND tool.org_id IS NOT DISTINCT FROM $1
    JOIN mcp.skill_categories AS skill
        ON skill.id = wanted.skill_id AND (skill.is_global OR skill.org_id = $1)
    WHERE tool.hidden_at IS NULL
    ORDER BY tool.id, skill.id
    RETURNING 1
)
SELECT count(*) FROM made;

-- name: assigned
-- For the process itself: the skills of every tool that is not hidden, the surest first.
SELECT tool.org_id, server.name AS server, tool.own_name, skill.name AS skill, given.confidence
FROM mcp.tool_skill_assignments AS given
JOIN mcp.tools AS tool ON tool.id = given.tool_id
JOIN mcp.servers AS server ON server.id = tool.source_server_id
JOIN mcp.skill_categories AS skill ON skill.id = given.skill_id
WHERE tool.hidden_at IS NULL AND given.org_id IS NOT DISTINCT FROM tool.org_id
ORDER BY given.tool_id, given.confidence DESC, skill.name;
