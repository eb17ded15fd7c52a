"""The credentials of people, encrypted."""
