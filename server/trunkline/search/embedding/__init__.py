"""Where a text becomes a vector: the embedding that comes along, MiniLM, or an endpoint."""
