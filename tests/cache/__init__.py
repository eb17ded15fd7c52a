"""The cache, over a Redis in process and over a real one."""
