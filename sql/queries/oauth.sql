-- Logins at the servers behind us. Links, states and browsers are compared by their SHA-256.

-- name: registration
-- $1 issuer, $2 redirect URI
-- As whom we are known there; none if the registration is about to expire.
SELECT client_id, auth_method FROM mcp.oauth_registrations
WHERE issuer = $1 AND redirect_uri = $2
  AND (expires_at IS NULL OR expires_at > now() + interval '1 day');

-- name: register
-- $1 issuer, $2 redirect URI, $3 client id, $4 auth method, $5 seconds until it expires
-- The first of two that register at once stays; an expired one gives way. Returns what holds now.
WITH mine AS (
    INSERT INTO mcp.oauth_registrations AS there
        (issuer, redirect_uri, client_id, auth_method, expires_at)
    VALUES ($1, $2, $3, $4, now() + make_interval(secs => $5::double precision))
    ON CONFLICT (issuer, redirect_uri) DO UPDATE
    SET client_id = EXCLUDED.client_id, auth_method = EXCLUDED.auth_method,
        expires_at = EXCLUDED.expires_at, created_at = now()
    WHERE there.expires_at < now() + interval '1 day'
    RETURNING client_id, auth_method
)
SELECT client_id, auth_method FROM mine
UNION ALL
SELECT client_id, auth_method FROM mcp.oauth_registrations
WHERE issuer = $1 AND redirect_uri = $2 AND NOT EXISTS (SELECT FROM mine);

-- name: unregister
-- $1 issuer, $2 client id
-- The authorization server does not know that client any more.
DELETE FROM mcp.oauth_registrations WHERE issuer = $1 AND client_id = $2;

-- name: begin
-- $1 org id, $2 user, $3 server, $4 link, $5 request, $6 seconds it may take
-- A login of that person at that server. Those that ended an hour ago are forgotten.
WITH forgotten AS (
    DELETE FROM mcp.oauth_logins WHERE expires_at < now() - interval '1 hour'
)
INSERT INTO mcp.oauth_logins (org_id, user_name, server, link, request, expires_at)
VALUES ($1, $2, $3, $4, $5::json, now() + make_interval(secs => $6::double precision))
RETURNING id;

-- name: show
-- $1 link
-- What the page behind a link says: nothing changes, for programs look at links as well.
SELECT login.user_name, login.server, org.name AS org, login.request::text AS request,
       login.browser IS NOT NULL AS is_taken
FROM mcp.oauth_logins AS login LEFT JOIN mcp.orgs AS org ON org.id = login.org_id
WHERE login.link = $1 AND login.used_at IS NULL AND login.expires_at > now();

-- name: leave
-- $1 link, $2 browser, $3 state, $4 seed
-- A browser sets out to the authorization server. The first that does keeps the login; it may do so
-- again, and then only its last state counts.
UPDATE mcp.oauth_logins SET browser = $2, state = $3, seed = $4
WHERE link = $1 AND used_at IS NULL AND expires_at > now() AND (browser IS NULL OR browser = $2)
RETURNING request::text AS request;

-- name: return
-- $1 state
-- A browser comes back with that state: good once.
UPDATE mcp.oauth_logins AS login SET used_at = now()
WHERE state = $1 AND used_at IS NULL AND expires_at > now()
RETURNING id, browser, seed, user_name, server, request::text AS request, org_id,
    (SELECT name FROM mcp.orgs WHERE orgs.id = login.org_id) AS org;

-- name: end
-- $1 id, $2 outcome, $3 reason
-- How a login ended, for whoever waits for it in any process.
WITH ended AS (
    UPDATE mcp.oauth_logins SET outcome = $2, reason = $3, used_at = coalesce(used_at, now())
    WHERE id = $1 AND outcome IS NULL RETURNING id
)
SELECT pg_notify('mcp_oauth', id::text) FROM ended;

-- name: outcomes
-- $1 ids
-- Those of these logins that have ended, or never will.
SELECT id, outcome, reason FROM mcp.oauth_logins
WHERE id = ANY($1::uuid[]) AND outcome IS NOT NULL
UNION ALL
SELECT id, 'failed', 'Nobody followed the link in time.' FROM mcp.oauth_logins
WHERE id = ANY($1::uuid[]) AND outcome IS NULL AND expires_at < now() AND used_at IS NULL;

-- name: claim
-- $1 org id, $2 user, $3 server, $4 who changes it, $5 seconds that may take
-- The right to change somebody's token, for one at a time; it passes on when its time is over.
INSERT INTO mcp.oauth_grants AS there
    (org_id, user_name, server, refreshing_by, refreshing_until)
VALUES ($1, $2, $3, $4, now() + make_interval(secs => $5::double precision))
ON CONFLICT ((coalesce(org_id, '00000000-0000-0000-0000-000000000000')), user_name, server)
DO UPDATE SET refreshing_by = EXCLUDED.refreshing_by, refreshing_until = EXCLUDED.refreshing_until
WHERE there.refreshing_until IS NULL OR there.refreshing_until < now()
RETURNING generation;

-- name: release
-- $1 org id, $2 user, $3 server, $4 who changed it, $5 generation of the token there is now, $6 reason
-- Gives the right back, with what came of it. A reason says why there is no token any more.
UPDATE mcp.oauth_grants
SET refreshing_by = NULL, refreshing_until = NULL, updated_at = now(),
    generation = greatest(generation, $5), reason = $6
WHERE org_id IS NOT DISTINCT FROM $1 AND user_name = $2 AND server = $3 AND refreshing_by = $4;

-- name: grant
-- $1 org id, $2 user, $3 server
-- How somebody's token for a server is doing, and whether somebody is on the way to log in.
SELECT
    (SELECT reason FROM mcp.oauth_grants
     WHERE org_id IS NOT DISTINCT FROM $1 AND user_name = $2 AND server = $3) AS reason,
    EXISTS (SELECT FROM mcp.oauth_grants
     WHERE org_id IS NOT DISTINCT FROM $1 AND user_name = $2 AND server = $3
       AND refreshing_until > now()) AS is_refreshing,
    EXISTS (SELECT FROM mcp.oauth_logins
     WHERE org_id IS NOT DISTINCT FROM $1 AND user_name = $2 AND server = $3
       AND outcome IS NULL AND expires_at > now()) AS is_waiting;
