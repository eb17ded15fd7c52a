"""The admin REST API and the console."""
