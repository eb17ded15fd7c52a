"""Connections to MCP servers behind us."""
