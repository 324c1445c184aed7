"""Fills a module from a file, with every key of the file accounted for.

`plan` explains the keys from headers alone; `bind` does what the plan says. A key is
bound as it is, cast, shifted, dequantised, quantised, or dropped for a stated reason; anything
else is a BindError that lists it. There is no loose mode.

A weight that comes with an adapter of its own is filled with their sum, computed in float32.

A linear that keeps its weight in a storage format (`weights.stored`) gets it from the file
untouched where the file has that format, and quantised while loading where it has another.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from sakuga.checkpoint.contents import Contents, Report, Target, report, unbound
from sakuga.checkpoint.families.match import BakedAdapter, Explanation, TensorPiece, is_embedding
from sakuga.errors import BindError
from sakuga.printable import listed
from sakuga.weights.folded import Blocks, Folded, InForm, Packed, Stretch
from sakuga.weights.formats import Shape, StorageFormat, StoredTensor, is_packed, scale_key
from sakuga.weights.ggml import dequantise_blocks
from sakuga.weights.gguf import BLOCKS
from sakuga.weights.quantise import TORCH_DTYPES, quantise
from sakuga.weights.store import Store
from sakuga.weights.stored import StoredLinear, scale_name, weight_name
from sakuga.weights.translated import Translated
from sakuga.weights.unfold import Unfolding


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a module asks one tensor to be: `form` where it keeps it stored, else None."""

    shape: Shape
    dtype: torch.dtype
    form: StorageFormat | None = None


@dataclass(frozen=True, slots=True)
class BindPlan:
    """How a module would be filled, decided from headers alone."""

    explanation: Explanation
    wanted: Mapping[str, Wanted]
    report: Report


def plan_binding(
    module: nn.Module, contents: Contents, *, dtype: torch.dtype | None = None
) -> BindPlan:
    """Explain every key of a file against `module`, without reading a weight.

    dtype: what floats become, by default what the module has. Raises BindError listing what is
    missing, left over or of another shape.
    """
    store, stored = contents.store, contents.stored
    wanted = wanted_of(module, dtype)
    explanation = contents.explain({key: want.shape for key, want in wanted.items()})
    if not explanation.complete:
        raise unbound(explanation, store.path)
    targets = {key: Target(_name(want.dtype), want.form) for key, want in wanted.items()}
    fates = report(explanation, contents.shapes, store.dtypes(), stored, targets)
    return BindPlan(explanation, wanted, fates)


def bind(
    module: nn.Module,
    contents: Contents,
    *,
    dtype: torch.dtype | None = None,
    device: torch.device | str = "cpu",
    folded: bool = False,
) -> Report:
    """Fill `module`, usually built on the meta device, and say what became of every key.

    dtype: what floats become, by default what the module has. On the CPU, weights that
    need no change stay views of the mapped file: read when first touched, shared between
    processes, never written back. folded: matrices that the file keeps in few bits stay there, on
    the CPU, and are unfolded whenever they are read; else they are now, once and for all. Buffers
    outside the state dict must be real already. Raises as `plan` does, before any weight is read,
    and CorruptFile where scales are not finite.
    """
    _refuse_empty_buffers(module)
    todo = plan_binding(module, contents, dtype=dtype)
    store, stored = contents.store, contents.stored
    filled: dict[str, Tensor] = {}
    for piece in todo.explanation.pieces:
        want = todo.wanted[piece.target]
        if want.form is None:
            left = fold(store, piece, stored, want.dtype) if folded else None
            if left is None:
                filled[piece.target] = read_piece(store, piece, stored, want.dtype).to(device)
            else:
                filled[piece.target] = left
            continue
        values, scale = read_stored(store, piece, stored, want.form)
        filled[piece.target] = values.to(device)
        if scale is not None:
            filled[scale_name(piece.target)] = scale.to(device)
    module.load_state_dict(filled, strict=True, assign=True)
    return todo.report


def wanted_of(module: nn.Module, dtype: torch.dtype | None = None) -> dict[str, Wanted]:
    """What a module asks of a file, by our names; `dtype` is what its floats become.

    Linears that keep their weight stored ask for it by its own shape; its scales belong to it.
    """
    linears = {
        weight_name(name): child
        for name, child in module.named_modules()
        if isinstance(child, StoredLinear)
    }
    scales = {scale_name(key) for key in linears}
    wanted = {}
    for key, value in module.state_dict().items():
        if key in linears:
            form = linears[key].form
            wanted[key] = Wanted(linears[key].shape, TORCH_DTYPES[form.dtype], form)
        elif key not in scales:
            wanted[key] = Wanted(tuple(value.shape), dtype_of(value, dtype))
    return wanted


def read_tensor(store: Store, key: str, rows: slice | None = None) -> Tensor:
    """One tensor as stored: a view of the mapped file where memory alignment allows.

    rows: a first row and the one after the last, where not the whole is wanted. What a file
    keeps packed, as GGUF's blocks, which is never kept as stored, is given in float32.
    """
    info = store.info(key)
    if is_packed(info.dtype):
        return _read_packed(store, key, rows or slice(None), torch.float32)
    dtype, shape = TORCH_DTYPES.get(info.dtype, torch.uint8), info.shape
    view: memoryview | bytearray = store.view(key)
    start = info.start
    if rows is not None and shape:
        step = info.nbytes // max(1, shape[0])
        shape = (len(range(shape[0])[rows]), *shape[1:])
        view, start = view[rows.start * step : rows.stop * step], start + rows.start * step
    if not len(view):
        return torch.empty(shape, dtype=dtype)
    if start % dtype.itemsize:
        view = bytearray(view)
    return torch.frombuffer(view, dtype=dtype).view(shape)


def read_piece(
    store: Store,
    piece: TensorPiece,
    stored: Mapping[str, StoredTensor],
    dtype: torch.dtype,
    rows: tuple[int, int] | None = None,
) -> Tensor:
    """One tensor of ours, in `dtype`, from the file's: joined, cut, dequantised, baked, shifted.

    rows: the first row and the one after the last, where not the whole tensor is wanted. No
    more than these are read.
    """
    if not piece.shape:
        return read_tensor(store, piece.sources[0]).to(dtype)
    first, last = rows or (0, piece.shape[0])
    offset = piece.rows[0] if piece.rows else 0
    window = slice(offset + first, offset + last)
    shape = (last - first, *piece.shape[1:])
    if piece.adapter is not None:
        return _baked(store, piece, piece.adapter, window).to(dtype).view(shape)
    if piece.shift:
        plain = read_piece(store, replace(piece, shift=0.0), stored, torch.float32, rows)
        return (plain + piece.shift).to(dtype)
    parts, start = [], 0
    for key in piece.sources:
        whole = (stored[key].shape if key in stored else None) or store.info(key).shape
        part = slice(max(window.start - start, 0), min(window.stop - start, whole[0]))
        if part.start < part.stop or window.start == window.stop:
            parts.append(_read_rows(store, key, stored.get(key), part, dtype))
        start += whole[0]
    return (parts[0] if len(parts) == 1 else torch.cat(parts)).reshape(shape)


def fold(
    store: Store, piece: TensorPiece, stored: Mapping[str, StoredTensor], dtype: torch.dtype
) -> Folded | None:
    """A tensor of ours whose values are left where they are.

    None where it is more than rows of matrices that the file keeps in few bits.
    """
    if piece.adapter is not None or piece.shift or len(piece.shape) != 2:
        return None
    first, last = piece.rows or (0, piece.shape[0])
    stretches, start = list[Stretch](), 0
    for key in piece.sources:
        of = packed_of(store, key, stored.get(key))
        if of is None or len(of.shape) != 2:
            return None
        low, high = max(first - start, 0), min(last - start, of.shape[0])
        if low < high:
            stretches.append(Stretch(of, low, high))
        start += of.shape[0]
    return Folded(stretches, dtype) if stretches else None


def packed_of(store: Store, key: str, stored: StoredTensor | None) -> Packed | None:
    """A tensor of rows that the file keeps in few bits; None where it keeps it otherwise."""
    info = store.info(key)
    if stored is not None:
        values, scale = read_tensor(store, key), read_tensor(store, scale_key(key))
        return InForm(values, scale, stored.form, stored.shape or info.shape)
    if isinstance(store, Translated) and key in store.packed:
        weight = store.packed[key]
        parts = {role: read_tensor(store.raw, part) for role, part in weight.parts.items()}
        return Unfolding(weight, parts, f"{key!r} in {info.file}")
    if info.dtype in BLOCKS and len(info.shape) > 1 and info.nbytes:
        raw = torch.frombuffer(store.view(key), dtype=torch.uint8).view(info.shape[0], -1)
        return Blocks(raw, info.dtype, info.shape)
    return None


def read_stored(
    store: Store, piece: TensorPiece, stored: Mapping[str, StoredTensor], form: StorageFormat
) -> tuple[Tensor, Tensor | None]:
    """One tensor of ours in `form`: its values, and its scales where the format has some.

    What the file stores in that format is taken as it is, rows joined and cut, which their
    scales follow; anything else is quantised here, from float32.
    """
    if not form.quantised:
        return read_piece(store, piece, stored, TORCH_DTYPES[form.dtype]), None
    if all(key in stored and stored[key].form == form for key in piece.sources):
        values = [read_tensor(store, key) for key in piece.sources]
        scales = [read_tensor(store, scale_key(key)) for key in piece.sources]
        return _rows(values, piece), _rows(scales, piece)
    return quantise(read_piece(store, piece, stored, torch.float32), form)


def dtype_of(wanted: Tensor, dtype: torch.dtype | None) -> torch.dtype:
    """What a tensor of the module becomes: `dtype` for floats, its own for the rest."""
    return dtype if dtype is not None and wanted.is_floating_point() else wanted.dtype


def _rows(parts: list[Tensor], piece: TensorPiece) -> Tensor:
    """The rows of a piece, out of its sources laid end to end."""
    whole = parts[0] if len(parts) == 1 else torch.cat(parts)
    return whole if piece.rows is None else whole[slice(*piece.rows)]


def _read_rows(
    store: Store, key: str, stored: StoredTensor | None, rows: slice, dtype: torch.dtype
) -> Tensor:
    """Rows of one tensor of the file, in `dtype`."""
    if is_packed(store.info(key).dtype):
        return _read_packed(store, key, rows, dtype)
    packed = packed_of(store, key, stored) if stored is not None else None
    if packed is not None:
        return packed.rows(rows.start, rows.stop, dtype)
    return read_tensor(store, key, rows).to(dtype)


def _read_packed(store: Store, key: str, rows: slice, dtype: torch.dtype) -> Tensor:
    """Rows of a tensor that is packed, no more of which are unfolded than these."""
    info, packed = store.info(key), packed_of(store, key, None)
    if packed is not None:
        places = range(info.shape[0])[rows]
        return packed.rows(places.start, places.stop, dtype)
    if not info.nbytes:
        return torch.empty(info.shape, dtype=dtype)[rows]
    raw = torch.frombuffer(store.view(key), dtype=torch.uint8)  # one row, not cut between blocks
    return dequantise_blocks(raw, info.dtype, info.shape, dtype)[rows]


def _baked(store: Store, piece: TensorPiece, adapter: BakedAdapter, rows: slice) -> Tensor:
    """Rows of a weight and its adapter as one, in float32 (see `BakedAdapter`)."""
    weight, a, b = piece.sources
    left, right = (a, b) if is_embedding(piece.target) else (b, a)
    one = slice(adapter.index, adapter.index + 1)
    product = (
        read_tensor(store, left, one)[0, rows].float() @ read_tensor(store, right, one)[0].float()
    )
    return product.mul_(adapter.scale).add_(read_tensor(store, weight, rows))


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def _refuse_empty_buffers(module: nn.Module) -> None:
    """Whatever no file holds must have been computed when the module was built."""
    stored = module.state_dict().keys()
    empty = [key for key, value in module.named_buffers() if value.is_meta and key not in stored]
    if empty:
        raise BindError(
            "buffers that no file holds are computed when a module is built",
            f"empty ones: {listed(empty)}",
            "Build the module so that these buffers are real, or are none",
        )
