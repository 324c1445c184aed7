"""The embedded model: its renderer, its trainer, its judge."""
