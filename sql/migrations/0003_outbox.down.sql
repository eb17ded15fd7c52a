-- Back to a catalog without an index. The tables are kept as *_backup_0003: 0003 takes them up again.

ALTER TABLE IF EXISTS mcp.embeddings RENAME TO embeddings_backup_0003;
ALTER TABLE IF EXISTS mcp.outbox RENAME TO outbox_backup_0003;
