"""Whoever has tools: a downstream, a plugin."""
