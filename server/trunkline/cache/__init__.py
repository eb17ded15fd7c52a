"""Answers we may forget, kept in Redis."""
