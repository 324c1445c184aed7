"""LoRA and its kin: read, fitted to a model, applied, merged."""
