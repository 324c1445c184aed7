"""A prompt as people write it to the exact text each encoder reads, and what is wrong with it."""
