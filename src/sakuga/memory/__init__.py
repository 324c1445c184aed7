"""What a drawing takes of a device: priced, planned, kept to."""
