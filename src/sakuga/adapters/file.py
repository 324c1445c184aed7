"""An adapter's file, understood from its header: what belongs together, and by what scale.

A file changes modules; what kinds of changes there are lists `adapters.kinds`. The scale of
low-rank factors is alpha / rank, or alpha / sqrt(rank) where the config says `use_rslora`; it is 1
for all else, and for a LoKr of two whole factors: it has no rank, and what trainers write as its
alpha means nothing. PEFT's own LoKr is the exception, whose scale is always that of its config.
Alpha comes from, in this order: the user, the tensor beside the factors, and, where they speak of
this kind, adapter_config.json and the metadata; else it is taken to be the rank, and the report
says so. The rank is also what trainers mean by an alpha of 0.
Files of all trainers differ in names alone. No name is compared with a model's here.
"""

from __future__ import annotations

import math
import shlex
import struct
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from sakuga.adapters.config import (
    ASSUMED,
    CONFIG,
    PEFT_PREFIX,
    Settings,
    check_steps,
    positive,
    settings_of,
    short_json,
)
from sakuga.adapters.kinds import BY_NAME, BY_ROLES, KINDS, Kind, Measured
from sakuga.adapters.spec import AdapterSpec
from sakuga.checkpoint.families.detect import ENDS, OTHER_KINDS, ROLES, WHOLE_ROLES
from sakuga.checkpoint.parts import Opener
from sakuga.errors import BindError, CorruptFile, LayoutError, ModelNotFound
from sakuga.weights.archive import is_from_torch, is_zip
from sakuga.weights.formats import FLOAT_DTYPES, STRUCT_CODES, Shape
from sakuga.weights.shards import FROM_TORCH
from sakuga.weights.store import Store
from sakuga.weights.untrusted import confine, reading

PEFT_FILE = "adapter_model.safetensors"
PEFT_FILES = (PEFT_FILE, "adapter_model.bin")

ALPHA_GIVEN, ALPHA_BESIDE = "given by hand", "a tensor of the file"
ALPHA_ZERO = f"{ASSUMED}, which a 0 in the file stands for"
MAX_RANK = 1024  # or as large as the matrix; more is waste, or an attack


@dataclass(frozen=True, slots=True)
class AdapterPart:
    """What a file holds for one module, which it calls `stem`.

    kind: a name of `adapters.kinds`. tensors: their names by the part they play, alpha apart.
    shape: of the change, (out, in) or (dim,), 0 for a side that the file does not tell. rank: of
    the low-rank factors, 0 where all are whole. alpha: None where it means nothing; `alpha_from`
    says where it was found. kept: shapes of what is held of it while it is applied, by the names
    of the buffers in `adapters.deltas`. repeated: whether it may change several such shapes side
    by side. terms, limit: of an OFT, see `adapters.deltas`.
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
    repeated: bool = False
    terms: int = 0
    limit: float = 0.0

    @property
    def values(self) -> int:
        """How many numbers are held of it while it is applied."""
        return sum(map(math.prod, self.kept.values()))

    @property
    def is_bias(self) -> bool:
        """Whether it changes a bias, and no weight."""
        return BY_NAME[self.kind].bias

    def fits(self, wanted: Shape) -> bool:
        """Whether it changes a module whose weight has this shape."""
        return Measured(self.shape, self.rank, self.kept, self.repeated).fits(wanted)


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

    @property
    def alpha_used(self) -> bool:
        """Whether an alpha given by hand counts anywhere."""
        return any(part.alpha_from == ALPHA_GIVEN for part in self.parts)

    @property
    def alpha_is_scale(self) -> bool:
        """Whether an alpha given by hand is the whole scale somewhere: nothing says a rank."""
        return self.config is None and any(
            part.alpha_from == ALPHA_GIVEN and not part.rank for part in self.parts
        )

    def parts_of(self, keys: Collection[str]) -> set[str]:
        """The modules, by the names in the file, to which any of these tensors belongs."""
        wanted = set(keys)
        return {part.stem for part in self.parts if wanted.intersection(part.tensors.values())}


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
            "an adapter holds factors of a kind that is read, or differences of weights",
            f"{len(store)} tensors that are none, such as {short_json(next(iter(store), ''))}, "
            f"in {store.path}",
            "Give a model's own weights with --model or --transformer",
        )
    settings = settings_of(store, config_file, given=spec.alpha is not None)
    check_steps(settings, groups, f"of {store.path}")
    parts = tuple(
        _part(store, stem, roles, settings, spec)
        for stem, together in groups.items()
        for roles in _split(store, together)
    )
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
                f"adapters are of the kinds {', '.join(kind.title for kind in KINDS)}",
                f"{what}: {short_json(key)} in {store.path}",
                "Merge it with the program that trained it, and use the merged model",
            )
        stem, role = _role(key)
        if not stem:
            odd.append(key)
        if not stem or not role:
            continue
        roles = groups.setdefault(stem, {})
        if ".modules_to_save." in roles.get(role, ""):  # the same under its short name
            continue
        if role in roles and ".modules_to_save." not in key:
            raise _bad_part(store, stem, f"two tensors as {role}")
        roles[role] = key
    for stem in [stem for stem, roles in groups.items() if roles.keys() == {"alpha"}]:
        odd.append(groups.pop(stem)["alpha"])
    return groups, tuple(odd)


def _role(key: str) -> tuple[str, str]:
    """A tensor's module, "" for none, and the part that it plays there, "" for none that counts."""
    end = next((end for end in ROLES if key.endswith(end)), None)
    role = ROLES.get(end or "", "")
    if end is None and key.startswith(PEFT_PREFIX):
        end = next((end for end in WHOLE_ROLES if key.endswith(end)), None)
        role = WHOLE_ROLES.get(end or "", "")
    if end is None:
        return "", ""
    # Of diffusers' old attention processors: attn.processor.to_q_lora.down.weight.
    return key.removesuffix(end).replace(".processor.", "."), role


def _split(store: Store, together: Mapping[str, str]) -> Iterator[dict[str, str]]:
    """What changes the weight of a module, and what changes its bias."""
    roles = dict(together)
    if "diff" in roles and len(store.info(roles["diff"]).shape) == 1:  # of a norm
        roles["w_norm"] = roles.pop("diff")
        if "diff_b" in roles:
            roles["b_norm"] = roles.pop("diff_b")
    for role in ("diff_b", "whole_bias"):
        if role in roles and len(roles.keys() - {"alpha"}) > 1:
            yield {role: roles.pop(role)}
    if "up_bias" in roles and {"down", "up"} <= roles.keys():
        alpha = {"alpha": roles["alpha"]} if "alpha" in roles else {}
        yield {role: roles[role] for role in ("up_bias", "down", "up")} | alpha
        del roles["up_bias"]
    yield roles


def _part(
    store: Store, stem: str, roles: Mapping[str, str], settings: Settings, spec: AdapterSpec
) -> AdapterPart:
    """One change of a module, checked as far as the file alone allows."""
    tensors = {role: key for role, key in roles.items() if role != "alpha"}
    kind = BY_ROLES.get(frozenset(tensors))
    if kind is None:
        raise _bad_part(store, stem, f"{', '.join(sorted(tensors))}, which make no whole")
    for key in tensors.values():
        if store.info(key).dtype not in FLOAT_DTYPES:
            raise _bad_part(store, stem, f"{store.info(key).dtype} in {short_json(key)}")
    shapes = {role: store.info(key).shape for role, key in tensors.items()}
    measured = kind.measure(shapes)
    if measured is None:
        raise _bad_part(store, stem, ", ".join(f"{r} {list(s)}" for r, s in shapes.items()))
    shape, rank = measured.shape, measured.rank
    if rank > max(MAX_RANK, *shape):
        raise _bad_part(store, stem, f"rank {rank} for a matrix of {list(shape)}")
    scale = _scale(store, stem, roles, Scaled(kind, rank), settings, spec)
    limit = _number(store, roles["alpha"]) * shape[0] if _is_limit(kind, roles) else 0.0
    return AdapterPart(
        stem, kind.name, tensors, shape, rank, *scale, measured.kept, measured.repeated,
        settings.terms, limit,
    )  # fmt: skip


def _is_limit(kind: Kind, roles: Mapping[str, str]) -> bool:
    """Whether an alpha is what LyCORIS calls the constraint of an OFT."""
    return kind.name == "oft-output" and "alpha" in roles


def _scale(
    store: Store, stem: str, roles: Mapping[str, str], scaled: Scaled, settings: Settings,
    spec: AdapterSpec,
) -> tuple[float | None, str, float]:  # fmt: skip
    """Alpha, what says so, and the scale that follows."""
    kind, rank = scaled.kind, scaled.rank
    spoken = settings.speaks_of(kind.name)
    wanted = settings.rank_of(stem) if spoken else None
    if wanted is not None and rank not in (0, wanted):
        raise _bad_part(store, stem, f"rank {wanted:g} by {CONFIG}, {rank} by the tensors")
    peft = kind.name.endswith("lokr") and stem.startswith(PEFT_PREFIX) and "alpha" not in roles
    if not kind.scaled or not (rank or (peft and not settings.lycoris)):
        return None, "", 1.0
    given = _alpha(store, roles, rank, spec)
    known = settings.alpha_of(stem) if spoken else None
    if given is None and known is None and not rank:
        raise _unknown_strength(store, stem)
    alpha, source = given or ((float(rank), ASSUMED) if known is None else
                              (known, settings.alpha_from))  # fmt: skip
    divisor = rank or wanted or 1
    return alpha, source, alpha / (math.sqrt(divisor) if settings.root else divisor)


@dataclass(frozen=True, slots=True)
class Scaled:
    """What a scale is of: a kind, and its rank."""

    kind: Kind
    rank: int


def _unknown_strength(store: Store, stem: str) -> LayoutError:
    return LayoutError(
        f"of a LoKr of PEFT the strength is known, which {CONFIG} alone says of whole factors",
        f"none for {short_json(stem)} in {store.path}",
        f"Give its folder with {CONFIG}, or its alpha divided by its r by hand: "
        "alpha 16 of r 64 is FILE:1:alpha=0.25",
    )


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
