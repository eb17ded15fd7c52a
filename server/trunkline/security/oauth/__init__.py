"""Logins of people at the servers behind us."""
