"""How checkpoints name their tensors: a table of rules per component, and what reads the tables."""
