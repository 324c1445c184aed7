"""Whether a computer and a model are fit to draw."""
