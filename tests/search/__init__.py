"""Tests of what makes the catalog findable."""
