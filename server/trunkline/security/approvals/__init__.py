"""Calls that a person has to agree to."""
