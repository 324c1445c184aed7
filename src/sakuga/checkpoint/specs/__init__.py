"""What model a component is: its config, its file's metadata and its key shapes, compared."""
