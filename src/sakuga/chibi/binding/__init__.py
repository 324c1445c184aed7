"""The binding benchmark: what prompts say, and whose it is in the picture."""
