"""Pictures, whole files and caches on a disk."""
