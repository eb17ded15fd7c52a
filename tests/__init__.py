"""The tests, and the servers they are run against."""
