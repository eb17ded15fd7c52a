"""Who did what, written down so that it stays."""
