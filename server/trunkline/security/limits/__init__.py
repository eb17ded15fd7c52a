"""How often, how many at a time and how large."""
