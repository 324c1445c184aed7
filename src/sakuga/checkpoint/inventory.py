"""The weights of an opened model, with the format that each has in its file."""

from __future__ import annotations

from sakuga.checkpoint.folder import Checkpoint, Component
from sakuga.model.inventory import Inventory, inventory_of
from sakuga.weights.formats import FORMATS, StorageFormat


def read_inventory(checkpoint: Checkpoint) -> Inventory:
    """The inventory of an opened model. Reads no more than its headers."""
    formats = {part.name: stored_formats(part) for part in checkpoint.components}
    return inventory_of(checkpoint.spec, formats)


def stored_formats(component: Component) -> dict[str, StorageFormat]:
    """The format of every tensor in a component's file, by our names.

    A tensor made of several, or lying in a type that no card computes in, counts as the
    float32 it is read as.
    """
    formats = {key: each.form for key, each in component.stored.items()}
    plain = {form.dtype: form for form in FORMATS.values() if not form.quantised}
    for key, dtype in component.store.dtypes().items():
        formats.setdefault(key, plain.get(dtype, FORMATS["float32"]))
    return {
        name: FORMATS["float32"]
        if piece.adapter is not None
        else max((formats[key] for key in piece.sources), key=lambda form: form.bits)
        for name, piece in component.pieces.items()
    }
