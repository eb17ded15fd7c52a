"""The MCP face: transports, identity, and the adapter that hands requests to dispatch."""
