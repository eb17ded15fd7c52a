"""PostgreSQL: the embedded server, the pool, and everything that is said in SQL."""
