"""Who asks: keys, tokens, and what is done about those who guess."""
