"""Real MCP servers, started as subprocesses by the tests."""
