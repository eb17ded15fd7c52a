"""From a query to the tools, prompts and resources that answer it."""
