-- Back to no logins at other servers. The tables are kept as *_backup_0012: 0012 takes them up again.

ALTER TABLE IF EXISTS mcp.oauth_grants RENAME TO oauth_grants_backup_0012;
ALTER TABLE IF EXISTS mcp.oauth_logins RENAME TO oauth_logins_backup_0012;
ALTER TABLE IF EXISTS mcp.oauth_registrations RENAME TO oauth_registrations_backup_0012;
