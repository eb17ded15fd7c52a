"""The configuration files of MCP clients: where they are, what they say, and our entry in them."""
