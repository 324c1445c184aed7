"""Adapters in an inventory: what they may change, and what is kept beside what they change.

Activations need no price of their own: what an adapter computes within a block is freed before
the block takes the most memory.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from sakuga.adapters.fit import WEIGHT, Fit, targets_of
from sakuga.model.inventory import Inventory, NetworkWeights, Shape, Weight, Weights, weights_of
from sakuga.model.spec import NextDiTSpec
from sakuga.weights.formats import BFLOAT16


def transformer_targets(spec: NextDiTSpec) -> dict[str, Shape]:
    """The modules of a transformer that adapters may change: linears (out, in), norms (dim,)."""
    return targets_of({weight.key: weight.shape for weight in weights_of(spec)})


def with_adapters(inventory: Inventory, fits: Sequence[Fit]) -> Inventory:
    """The inventory of a model to whose transformer adapters are applied."""
    added: dict[str, list[Weights]] = {}
    for change in (change for each in fits for change in each.active):
        deltas = added.setdefault(change.module, [])
        stem = f"{change.module}.deltas.{len(deltas)}"
        kept = change.part.kept.items()
        deltas.append(tuple(Weight(f"{stem}.{name}", shape, BFLOAT16) for name, shape in kept))
    return replace(inventory, transformer=_part(inventory.transformer, added))


def _part(part: NetworkWeights, added: Mapping[str, Sequence[Weights]]) -> NetworkWeights:
    """A network with more beside its weights, wherever those are."""

    def more(group: Weights) -> Weights:
        modules = (weight.key.removesuffix(WEIGHT) for weight in group)
        deltas = (delta for module in modules for delta in added.get(module, ()))
        return group + tuple(weight for delta in deltas for weight in delta)

    return NetworkWeights(
        blocks=tuple(map(more, part.blocks)),
        rest=more(part.rest),
        passing=tuple(map(more, part.passing)),
        host=more(part.host),
        idle=more(part.idle),
    )
