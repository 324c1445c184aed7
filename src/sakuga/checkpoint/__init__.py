"""What the files of a model mean: found, named, understood, bound, converted."""
