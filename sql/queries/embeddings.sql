-- Vectors by the text they were made of. A text is nobody's: who has it can make its vector.

-- name: find
-- $1 model, $2 content hashes
SELECT content_hash, vector FROM mcp.embeddings
WHERE model = $1 AND content_hash = ANY($2::bytea[]);

-- name: keep
-- $1 model, $2 content hashes, $3 vectors
-- The first one stays: the same text and model make the same vector.
INSERT INTO mcp.embeddings (model, content_hash, vector)
SELECT $1, content_hash, vector
FROM unnest($2::bytea[], $3::bytea[]) AS new (content_hash, vector)
ORDER BY content_hash
ON CONFLICT (model, content_hash) DO NOTHING;
