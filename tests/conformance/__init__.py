"""The official conformance suite, its fixture, and the command that runs one against the other."""
