"""An adapter's file, understood from its header: what belongs together, and by what scale.

A file changes modules; each change is one of three kinds, and W is the module's weight:

    lora   W + scale · up @ down                   LoRA, arXiv 2106.09685
    lokr   W + scale · kron(w1, w2)                LoKr, arXiv 2309.14859; w1, w2 whole or a @ b
    norm   W + w_norm, and b_norm added after      trained norms, as LyCORIS writes them

The scale is alpha / rank, or alpha / sqrt(rank) where the config says `use_rslora`; it is 1
for norms, and for a LoKr of two whole factors: it has no rank, and what trainers write as its
alpha means nothing. Alpha comes from, in this order: the user, the tensor beside the factors,
and, for a LoRA alone, adapter_config.json and the metadata; else it is taken to be the rank, and
the report says so. The rank is also what trainers mean by an alpha of 0.
Files of PEFT, kohya and LyCORIS differ in names alone. No name is compared with a model's here.
"""

from __future__ import annotations

import math
import shlex
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from sakuga.adapters.config import (
    ASSUMED,
    CONFIG,
    Settings,
    check_steps,
    positive,
    settings_of,
    short_json,
)
from sakuga.adapters.spec import AdapterSpec
from sakuga.checkpoint.families.detect import ENDS, OTHER_KINDS, ROLES
from sakuga.checkpoint.parts import Opener
from sakuga.errors import BindError, CorruptFile, LayoutError, ModelNotFound
from sakuga.weights.archive import is_from_torch, is_zip
from sakuga.weights.formats import FLOAT_DTYPES, STRUCT_CODES, Shape
from sakuga.weights.shards import FROM_TORCH
from sakuga.weights.store import Store
from sakuga.weights.untrusted import confine, reading

PEFT_FILE = "adapter_model.safetensors"
PEFT_FILES = (PEFT_FILE, "adapter_model.bin")

KINDS: Mapping[frozenset[str], str] = {
    frozenset({"down", "up"}): "lora",
    frozenset({"w1", "w2"}): "lokr",
    frozenset({"w1", "w2_a", "w2_b"}): "lokr",
    frozenset({"w1_a", "w1_b", "w2"}): "lokr",
    frozenset({"w1_a", "w1_b", "w2_a", "w2_b"}): "lokr",
    frozenset({"w_norm"}): "norm",
    frozenset({"w_norm", "b_norm"}): "norm",
}
ALPHA_GIVEN, ALPHA_BESIDE = "given by hand", "a tensor of the file"
ALPHA_ZERO = f"{ASSUMED}, which a 0 in the file stands for"
MAX_RANK = 1024  # or as large as the matrix; more is waste, or an attack


@dataclass(frozen=True, slots=True)
class AdapterPart:
    """What a file holds for one module, which it calls `stem`.

    kind: lora | lokr | norm. tensors: their names by the part they play, alpha apart. shape:
    of the change, (out, in) or (dim,). rank: of the low-rank factors, 0 where all are whole.
    alpha: None where it means nothing; `alpha_from` says where it was found. kept: shapes of
    what is held of it while it is applied, by the names of the buffers in `adapters.apply`.
    """

    stem: str
    kind: str
    tensors: Mapping[str, str]
    shape: Shape
    rank: int
    alpha: float | None
    alpha_from: str
    scale: float
    kept: Mapping[str, Shape]

    @property
    def values(self) -> int:
        """How many numbers are held of it while it is applied."""
        return sum(map(math.prod, self.kept.values()))


@dataclass(frozen=True, slots=True)
class Adapter:
    """An adapter's file, opened: its parts, and the tensors that are part of no adapter.

    config: the adapter_config.json that belongs to it, if there is one. other_config: one that
    lies beside it, and may belong to it or not.
    """

    spec: AdapterSpec
    store: Store
    config: Path | None
    other_config: Path | None
    parts: tuple[AdapterPart, ...]
    odd: tuple[str, ...]

    @property
    def assumed(self) -> tuple[AdapterPart, ...]:
        """Those parts of which nothing says what alpha is."""
        return tuple(part for part in self.parts if part.alpha_from in (ASSUMED, ALPHA_ZERO))


def read_adapter(spec: AdapterSpec, opens: Opener | None = None) -> Adapter:
    """Open an adapter and understand it. Reads the header, the config, and each alpha.

    opens: what opens its file, for who reads more than safetensors. Raises ModelNotFound where
    there is none, CorruptFile where bytes or config contradict themselves, or the file is a
    torch archive, LayoutError where it is no adapter, or of another kind, BindError where
    factors are incomplete or do not fit each other.
    """
    with reading(spec.path):
        store, config_file, other_config = _open(spec.path, opens or _open_safe)
    groups, odd = _grouped(store)
    if not groups:
        raise LayoutError(
            "an adapter holds LoRA or LoKr factors, or trained norms",
            f"{len(store)} tensors that are none, such as {short_json(next(iter(store), ''))}, "
            f"in {store.path}",
            "Give a model's own weights with --model or --transformer",
        )
    settings = settings_of(store, config_file, given=spec.alpha is not None)
    check_steps(settings, groups, f"of {store.path}")
    parts = tuple(_part(store, stem, roles, settings, spec) for stem, roles in groups.items())
    return Adapter(spec, store, config_file, other_config, parts, odd)


def is_adapter(store: Store) -> bool:
    """Whether most tensors of a file are an adapter's by their names, of any kind."""
    return 2 * sum(key.endswith(ENDS) for key in store) > len(store)


def _open(path: Path, opens: Opener) -> tuple[Store, Path | None, Path | None]:
    """The tensors of an adapter, the config that belongs to them, and one that may.

    A config describes the file that PEFT writes beside it, or the one file of its folder where
    that is what is named.
    """
    if not path.exists():
        raise ModelNotFound(
            "an adapter is a .safetensors file, or a folder as PEFT writes it",
            f"nothing at {path}",
            "Check the path; options follow a colon: style.safetensors:0.8",
        )
    folder = path if path.is_dir() else path.parent
    file = path / PEFT_FILE if path.is_dir() and (path / PEFT_FILE).exists() else path
    if file != path:
        confine(file, path)
    store = opens(file, None)
    config = folder / CONFIG
    if not config.is_file():
        return store, None, None
    if path.is_dir() or path.name in PEFT_FILES:
        return store, config, None
    taken = any((folder / name).exists() for name in PEFT_FILES)
    return store, None, None if taken else config


def _open_safe(path: Path, root: Path | None = None) -> Store:
    """Open safetensors; of a torch archive say what makes that of it."""
    files = [path]
    if path.is_dir():
        files = [each for each in path.iterdir() if each.name.endswith(FROM_TORCH)]
    if is_from_torch(path) and len(files) == 1 and is_zip(files[0]):
        (file,) = files
        out = file.with_suffix(".safetensors")
        out = out if out != file else file.with_name(f"{file.stem}-converted.safetensors")
        raise CorruptFile(
            "an adapter is applied from a .safetensors file",
            f"a torch archive, {file}",
            f"Convert it once: sakuga convert {shlex.quote(str(file))} {shlex.quote(str(out))}",
        )
    return Store.open(path, root)


def _grouped(store: Store) -> tuple[dict[str, dict[str, str]], tuple[str, ...]]:
    """Tensor names by module and role, and those that play none."""
    groups: dict[str, dict[str, str]] = {}
    odd = []
    for key in store:
        if what := next((w for end, w in OTHER_KINDS.items() if key.endswith(end)), None):
            raise LayoutError(
                "adapters are LoRA or LoKr of linears, and trained norms",
                f"{what}: {short_json(key)} in {store.path}",
                "Merge it with the program that trained it, and use the merged model",
            )
        end = next((end for end in ROLES if key.endswith(end)), None)
        if end is None or len(key) == len(end):
            odd.append(key)
            continue
        roles = groups.setdefault(key.removesuffix(end), {})
        if ROLES[end] in roles:
            raise _bad_part(store, key.removesuffix(end), f"two tensors as {ROLES[end]}")
        roles[ROLES[end]] = key
    for stem in [stem for stem, roles in groups.items() if roles.keys() == {"alpha"}]:
        odd.append(groups.pop(stem)["alpha"])
    return groups, tuple(odd)


def _part(
    store: Store, stem: str, roles: Mapping[str, str], settings: Settings, spec: AdapterSpec
) -> AdapterPart:
    """One module's change, checked as far as the file alone allows."""
    tensors = {role: key for role, key in roles.items() if role != "alpha"}
    kind = KINDS.get(frozenset(tensors))
    if kind is None:
        raise _bad_part(store, stem, f"{', '.join(sorted(tensors))}, which make no whole")
    for key in tensors.values():
        if store.info(key).dtype not in FLOAT_DTYPES:
            raise _bad_part(store, stem, f"{store.info(key).dtype} in {short_json(key)}")
    shapes = {role: store.info(key).shape for role, key in tensors.items()}
    measured = SHAPES[kind](shapes)
    if measured is None:
        raise _bad_part(store, stem, ", ".join(f"{r} {list(s)}" for r, s in shapes.items()))
    shape, rank = measured.shape, measured.rank
    if rank > max(MAX_RANK, *shape):
        raise _bad_part(store, stem, f"rank {rank} for a matrix of {list(shape)}")
    wanted = settings.rank_of(stem) if kind == "lora" else None
    if wanted is not None and wanted != rank:
        raise _bad_part(store, stem, f"rank {wanted:g} by {CONFIG}, {rank} by the tensors")
    # Only for a LoRA: for a LoKr config and metadata repeat what the trainer was started with,
    # often a huge number that asks for whole factors, and not the alpha of these factors.
    known = settings.alpha_of(stem) if kind == "lora" else None
    said = (float(rank), ASSUMED) if known is None else (known, settings.alpha_from)
    alpha, source = (_alpha(store, roles, rank, spec) or said) if rank else (None, "")
    scale = 1.0
    if alpha is not None:
        scale = alpha / (math.sqrt(rank) if settings.root else rank)
    return AdapterPart(stem, kind, tensors, shape, rank, alpha, source, scale, measured.kept)


def _alpha(
    store: Store, roles: Mapping[str, str], rank: int, spec: AdapterSpec
) -> tuple[float, str] | None:
    """The alpha of one module's factors, by the user or a tensor beside them, and what says so."""
    if spec.alpha is not None:
        return spec.alpha, ALPHA_GIVEN
    if "alpha" in roles:
        beside = _number(store, roles["alpha"])
        # kohya's networks and LyCORIS', given an alpha of 0, take the rank.
        return (beside, ALPHA_BESIDE) if beside else (float(rank), ALPHA_ZERO)
    return None


@dataclass(frozen=True, slots=True)
class Measured:
    """What shapes say of a part: that of the change, its rank (0: none), what is kept of it."""

    shape: Shape
    rank: int
    kept: Mapping[str, Shape]


def _lora_shape(shapes: Mapping[str, Shape]) -> Measured | None:
    up, down = shapes["up"], shapes["down"]
    product = _product(up, down)
    return product and Measured(product[0], product[1], {"up": up, "down": down})


def _lokr_shape(shapes: Mapping[str, Shape]) -> Measured | None:
    """Of a Kronecker product the sides are products of the factors' sides."""
    factors = []
    for name in ("w1", "w2"):
        whole = (shapes[name], 0) if name in shapes else None
        found = whole or _product(shapes[f"{name}_a"], shapes[f"{name}_b"])
        if found is None or len(found[0]) != 2 or 0 in found[0]:
            return None
        factors.append(found)
    ((a, b), first), ((c, d), second) = factors
    if first and second and first != second:
        return None
    kept: dict[str, Shape] = {"w1": (a, b), "up": (c, d)}
    if is_narrow(c, d, second):
        kept |= {"up": (c, second), "down": (second, d)}
    return Measured((a * c, b * d), second or first, kept)


def _norm_shape(shapes: Mapping[str, Shape]) -> Measured | None:
    shape = shapes["w_norm"]
    if len(shape) != 1 or shapes.get("b_norm", shape) != shape:
        return None
    names = {"w_norm": "weight", "b_norm": "bias"}
    return Measured(shape, 0, {names[role]: each for role, each in shapes.items()})


def is_narrow(rows: int, columns: int, rank: int) -> bool:
    """Whether a product of this rank takes less as two factors than whole."""
    return 0 < rank * (rows + columns) < rows * columns


def _product(left: Shape, right: Shape) -> tuple[tuple[int, int], int] | None:
    """The shape and the inner dimension of left @ right; None where there is no such product."""
    if len(left) != 2 or len(right) != 2 or left[1] != right[0] or 0 in left or 0 in right:
        return None
    return (left[0], right[1]), left[1]


SHAPES: Mapping[str, Callable[[Mapping[str, Shape]], Measured | None]] = {
    "lora": _lora_shape,
    "lokr": _lokr_shape,
    "norm": _norm_shape,
}


def _number(store: Store, key: str) -> float:
    """The value of an alpha tensor, 0 or above. Raises CorruptFile."""
    info, data = store.info(key), store.view(key)
    value: float | None = None
    if math.prod(info.shape) == 1:
        if info.dtype == "BF16":  # the upper half of a float32
            (value,) = struct.unpack("<f", b"\0\0" + bytes(data))
        elif info.dtype in STRUCT_CODES:
            (value,) = struct.unpack("<" + STRUCT_CODES[info.dtype], data)
    if value == 0:
        return 0.0
    got = f"{info.dtype} {list(info.shape)}" if value is None else value
    return positive(value, got, f"{short_json(key)} of {store.path}")


def _bad_part(store: Store, stem: str, got: str) -> BindError:
    return BindError(
        "the factors of an adapter come whole, and fit each other",
        f"{got} for {short_json(stem)} in {store.path}",
        "Download or train the adapter again",
    )
