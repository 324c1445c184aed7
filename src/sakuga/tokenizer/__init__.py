"""Text to token ids, from the files that models come with."""
