"""The four networks, and their shapes by arithmetic."""
