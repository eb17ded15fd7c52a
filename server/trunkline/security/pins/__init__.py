"""Tools compared with what they were when they were accepted, and what their words are after."""
