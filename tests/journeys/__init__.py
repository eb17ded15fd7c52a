"""One journey per feature: a real client, the whole gateway, a real server."""
