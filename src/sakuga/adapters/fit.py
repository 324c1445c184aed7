"""An adapter held against a model: which module each of its parts changes.

Programs put their own prefixes before a module's name, some write its dots as underscores,
and some know it by the name of another layout (`checkpoint.families`), where query, key and
value may lie apart. All of these are spellings of one module here. A name that can be read
as two modules is an error, and so is one that can be read as none, unless that was allowed.

What an adapter computes within a block is freed before the block takes the most memory, except
where a linear computes a second time: `held_again` prices that.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from sakuga.adapters.config import MAX_NAME, short_json
from sakuga.adapters.file import Adapter, AdapterPart, read_adapter
from sakuga.adapters.kinds import numbers_again
from sakuga.adapters.spec import AdapterSpec
from sakuga.api.receipt import AdapterRecord
from sakuga.checkpoint.families.detect import nearest
from sakuga.checkpoint.families.match import spellings
from sakuga.checkpoint.families.tables import LAYOUTS
from sakuga.errors import BindError, LayoutError
from sakuga.model.inventory import Inventory, NetworkWeights, Weight, Weights, weights_of
from sakuga.model.spec import NextDiTSpec
from sakuga.printable import listed, shown
from sakuga.weights.formats import BFLOAT16, Shape
from sakuga.weights.sha256 import file_sha256, file_state

WEIGHT, BIAS = ".weight", ".bias"
PREFIXES = (
    "base_model.model.",
    "unet.base_model.model.",
    "transformer.",
    "diffusion_model.",
    "model.diffusion_model.",
    "lycoris_",
    "lora_unet_",
    "lora_transformer_",
)
SPLIT_QKV = re.compile(r'"split_qkv"\s*:\s*"?[Tt]rue')
JOINED = ("to_q", "to_k", "to_v")  # the parts of a fused qkv, in the order of their rows


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
    changes = [change for each in fits for change in each.active]
    hidden = inventory.spec.transformer.ffn_dim
    weights = (weight for block in inventory.transformer.blocks for weight in block)
    shapes = {weight.key: weight.shape for weight in weights}
    again = [
        held_again(change, shapes.get(change.module + WEIGHT, ()), hidden) for change in changes
    ]
    part = _part(inventory.transformer, added)
    most = max((one for one, _ in again), default=0), max((two for _, two in again), default=0)
    return replace(inventory, transformer=replace(part, again=most))


def held_again(change: Change, shape: Shape, hidden: int) -> tuple[int, int]:
    """What `NetworkWeights.again` says, of one change.

    Beside the output that is changed and what the change holds, there lies the input, where that
    is no state of its block, or the other factor of the gated product.
    """
    if len(shape) != 2:
        return 0, 0
    rows, columns = shape
    beside = {"w3": rows, "w2": columns, "out": columns}
    alive = rows + beside.get(change.module.rpartition(".")[2], 0)
    one, two = (
        max(0, alive + held - 2 * hidden) if held else 0
        for held in numbers_again(change.part.kind, change.part.kept, shape)
    )
    return one, two


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


@dataclass(frozen=True, slots=True, order=True)
class ModuleSlice:
    """A module by our name, or part `part` of the `count` whose rows its weight joins."""

    module: str
    part: int = 0
    count: int = 1


@dataclass(frozen=True, slots=True)
class Change:
    """What one part of an adapter does: to which module, to which of its rows (None: all)."""

    module: str
    rows: tuple[int, int] | None
    part: AdapterPart
    strength: float


@dataclass(frozen=True, slots=True)
class Fit:
    """An adapter that fits a model; `unmatched` are the tensors that change nothing."""

    adapter: Adapter
    changes: tuple[Change, ...]
    unmatched: tuple[str, ...]

    @property
    def active(self) -> tuple[Change, ...]:
        """The changes whose strength is not zero."""
        return tuple(change for change in self.changes if change.strength)

    def __str__(self) -> str:
        kinds = Counter(change.part.kind for change in self.changes)
        counts = ", ".join(f"{count} {kind}" for kind, count in kinds.items()) or "nothing"
        modules = f"{len(self.changes)} module{'s' * (len(self.changes) != 1)}"
        lines = [f"{self.adapter.spec}: changes {modules} ({counts})"]
        lines += [f"  {remark}" for remark in remarks(self.adapter)]
        if self.unmatched:
            count = len(self.adapter.parts_of(self.unmatched))
            every = len({part.stem for part in self.adapter.parts})
            whole = f" ({count} of {every} modules, each whole)" if count else ""
            lines.append(f"  left out: {listed(self.unmatched)}{whole}")
        return "\n".join(map(shown, lines))


def assumption(adapter: Adapter) -> str:
    """What alpha is taken to be where nothing says it, and where; "" where all is said."""
    if not adapter.assumed:
        return ""
    sources = " or ".join(dict.fromkeys(part.alpha_from for part in adapter.assumed))
    stems = list(dict.fromkeys(part.stem for part in adapter.assumed))
    some = ", ".join(short_json(stem) for stem in stems[:2])
    rest = f" and {len(stems) - 2} more modules" if len(stems) > 2 else ""
    told = f"alpha {sources} (else give :alpha=NUMBER) in {some}{rest}"
    if adapter.other_config is not None:
        told += (
            f"; {adapter.other_config.name} lies beside it, which may be another file's: "
            f"if it is this one's, give the folder, {adapter.other_config.parent}"
        )
    return told


def remarks(adapter: Adapter) -> Iterator[str]:
    """What whoever draws with an adapter should know of it."""
    if assumed := assumption(adapter):
        yield assumed
    if adapter.spec.alpha is not None and not adapter.alpha_used:
        yield "alpha= has no effect: nothing in this file is scaled by it"
    if adapter.alpha_is_scale:
        given = adapter.spec.alpha
        yield (
            f"alpha={given:g} is the scale itself here: of a LoKr's whole factors nothing says r; "
            "give alpha divided by r, for alpha 16 of r 64 alpha=0.25"
        )
    if SPLIT_QKV.search(adapter.store.metadata.get("ss_network_args", "")):
        yield (
            "trained with split_qkv: its trainer saves query, key and value as one of three times "
            "the rank with alpha as it was, so every program draws a third of what was trained "
            "there; :layers.*.attention.qkv=3 undoes that"
        )


def fit_adapters(
    specs: Sequence[AdapterSpec], targets: Mapping[str, Shape], *, partial: bool = False
) -> tuple[Fit, ...]:
    """Open adapters and hold them against a model, in the order in which they are applied.

    targets: as `targets_of` gives them. Raises what `read_adapter` and `fit` raise.
    """
    return tuple(fit(read_adapter(spec), targets, partial=partial) for spec in specs)


def targets_of(shapes: Mapping[str, Shape]) -> dict[str, Shape]:
    """The modules that an adapter may change, by our names: linears (out, in), norms (dim,).

    shapes: those of a model's tensors, by our names.
    """
    return {
        key.removesuffix(WEIGHT): shape
        for key, shape in shapes.items()
        if key.endswith(WEIGHT) and len(shape) in (1, 2)
    }


def fit(adapter: Adapter, targets: Mapping[str, Shape], *, partial: bool = False) -> Fit:
    """Find the module that each part of an adapter changes. Reads no tensor.

    partial: whether tensors that match nothing are left out instead of an error. Raises
    BindError for those, for shapes that differ, for a module changed twice, and for BLOCKS
    of the spec that cover nothing; LayoutError for a name that may mean two modules.
    """
    names = Names(targets)
    changes: dict[tuple[str, tuple[int, int] | None, bool], Change] = {}
    unmatched = list(adapter.odd)
    for part in adapter.parts:
        place = names.find(part.stem, str(adapter.store.path))
        if place is None:
            unmatched.extend(part.tensors.values())
            continue
        rows = slice_rows(place, targets)
        _check_shape(adapter, part, place, rows, targets[place.module])
        strength = adapter.spec.strength_of(place.module)
        key = (place.module, rows, part.is_bias)
        if key in changes:
            other = changes[key].part.stem
            raise _unfit(adapter, "changes a module once", f"{part.stem!r} beside {other!r}")
        changes[key] = Change(place.module, rows, part, strength)
    unmatched = list(dict.fromkeys(unmatched))
    if unmatched and (not partial or not changes):
        raise _unmatched(adapter, unmatched, names)
    _check_halves(adapter, unmatched, names)
    made = Fit(adapter, tuple(changes.values()), tuple(unmatched))
    _check_blocks(made)
    return made


def record(fitted: Fit, digest: Callable[[Path], str] = file_sha256) -> AdapterRecord:
    """What a receipt keeps of an adapter. digest: how a file is hashed."""
    adapter, spec = fitted.adapter, fitted.adapter.spec
    return AdapterRecord(
        file=spec.path.name,
        sha256=adapter.store.sha256(digest),
        strength=spec.strength,
        alpha=spec.alpha,
        blocks=tuple(map(str, spec.blocks)),
        config_sha256=None if adapter.config is None else digest(adapter.config),
    )


def fingerprint(fits: Sequence[Fit]) -> tuple[object, ...]:
    """What tells two sets of adapters apart: what was asked of which files, as they are now."""
    return tuple(
        (each.adapter.spec, tuple(map(file_state, each.adapter.store.files)), each.changes)
        for each in fits
    )


class Names:
    """Every spelling of a model's modules."""

    def __init__(self, targets: Mapping[str, Shape]) -> None:
        self._dotted: dict[str, set[ModuleSlice]] = {}
        self._flat: dict[str, set[ModuleSlice]] = {}
        for module in targets:
            for name, place in _spelled(module):
                self._dotted.setdefault(name, set()).add(place)
                self._flat.setdefault(name.replace(".", "_"), set()).add(place)

    def find(self, stem: str, source: str) -> ModuleSlice | None:
        """The module that a file calls `stem`, or None. Raises LayoutError if it may be two."""
        found: set[ModuleSlice] = set()
        for name in without_prefixes(stem) if len(stem) <= MAX_NAME else ():
            found |= self._dotted.get(name, set()) | self._flat.get(name, set())
        if len(found) > 1:
            both = " and ".join(repr(place.module) for place in sorted(found)[:2])
            raise LayoutError(
                "a name in an adapter means one module",
                f"{stem[:80]!r}, which may be {both}, in {source}",
                "Convert the adapter to names with dots",
            )
        return found.pop() if found else None

    def hint(self, stem: str) -> str:
        """The module that a name comes nearest to, for a message."""
        *_, bare = without_prefixes(stem[:MAX_NAME])
        near = nearest(bare, self._dotted) or nearest(bare, self._flat)
        return f" (nearest: {near!r})" if near else ""


def without_prefixes(stem: str) -> Iterator[str]:
    """A name, and what is left of it without one prefix, two, ..."""
    yield stem
    for prefix in PREFIXES:
        if stem.startswith(prefix):
            yield from without_prefixes(stem[len(prefix) :])


def slice_rows(place: ModuleSlice, targets: Mapping[str, Shape]) -> tuple[int, int] | None:
    """The rows of a module that a place stands for; None for all.

    Of a fused qkv, queries have as many rows as the output projection has columns; keys and
    values share the rest.
    """
    if place.count == 1:
        return None
    total = targets[place.module][0]
    sibling = f"{place.module.removesuffix('qkv')}out"
    queries = targets[sibling][1] if sibling in targets else total // place.count
    each = (total - queries) // (place.count - 1)
    start = 0 if place.part == 0 else queries + (place.part - 1) * each
    return start, start + (queries if place.part == 0 else each)


def _spelled(module: str) -> Iterator[tuple[str, ModuleSlice]]:
    """The names of a module: ours, ours with qkv apart, and those of every layout."""
    yield module, ModuleSlice(module)
    stem, _, last = module.rpartition(".")
    if last == "qkv":
        for part, name in enumerate(JOINED):
            yield f"{stem}.{name}", ModuleSlice(module, part, len(JOINED))
    elif last == "out":
        yield f"{stem}.to_out.0", ModuleSlice(module)
        yield f"{stem}.to_out", ModuleSlice(module)
    for layout in (each for each in LAYOUTS if each.component == "transformer"):
        names = spellings(layout, module + WEIGHT)
        for part, name in enumerate(names):
            yield name.removesuffix(WEIGHT), ModuleSlice(module, part, len(names))


def _check_shape(
    adapter: Adapter,
    part: AdapterPart,
    place: ModuleSlice,
    rows: tuple[int, int] | None,
    shape: Shape,
) -> None:
    wanted = shape if rows is None else (rows[1] - rows[0], *shape[1:])
    if not part.fits(wanted):
        raise _unfit(
            adapter,
            "changes modules of its own shape",
            f"{part.kind} of {list(part.shape)} for {place.module!r}, which is {list(wanted)}",
        )


def _check_halves(adapter: Adapter, unmatched: Sequence[str], names: Names) -> None:
    """Refuse to leave out what belongs to a module of the model: that would halve its change."""
    where = str(adapter.store.path)
    for key in unmatched:
        stem = key[:MAX_NAME]
        while "." in stem:
            stem = stem.rpartition(".")[0]
            if names.find(stem, where) is not None:
                raise _unfit(
                    adapter,
                    "is left out in whole modules, never in halves",
                    f"{short_json(key)}, of no kind that is read, for the module {stem[:80]!r}",
                )


def _check_blocks(made: Fit) -> None:
    """Refuse BLOCKS that cover no module: they are a typing error."""
    for each in made.adapter.spec.blocks:
        if not any(each.covers(change.module) for change in made.changes):
            modules = sorted({change.module for change in made.changes})
            raise _unfit(
                made.adapter,
                "is strengthened where it changes something",
                f"{each.blocks!r}, where it changes {listed(modules)}",
            )


def _unmatched(adapter: Adapter, keys: Sequence[str], names: Names) -> BindError:
    stems = {key: part.stem for part in adapter.parts for key in part.tensors.values()}
    hints = (names.hint(stems.get(key, key)) for key in keys)
    return BindError(
        "every tensor of an adapter changes a module of the model",
        f"{listed(keys, hints)} in {adapter.store.path}",
        "Use the model it was made for; --lora-partial leaves out what does not match",
    )


def _unfit(adapter: Adapter, rule: str, got: str) -> BindError:
    return BindError(
        f"an adapter {rule}", f"{got} in {adapter.store.path}", "Use the model it was made for"
    )
