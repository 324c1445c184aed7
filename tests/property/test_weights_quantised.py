"""Every shape of every scheme of other programs is read as what it stands for, or refused."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from effort import examples
from quantisers import EVERY, Kept, write
from sakuga.checkpoint.bind import read_piece
from sakuga.checkpoint.contents import read_shapes
from sakuga.checkpoint.families.match import TensorPiece
from sakuga.errors import CorruptFile, LayoutError
from sakuga.weights.store import Store
from sakuga.weights.translated import translated

ROOMY = settings(
    max_examples=examples(80),
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
KINDS = st.sampled_from(sorted(EVERY))
PARTS = sorted({part for make in EVERY.values()
                for part in make(np.random.default_rng(0), (4, 8)).tensors})  # fmt: skip
DTYPES = (torch.uint8, torch.int8, torch.float32, torch.bfloat16, torch.float8_e4m3fn)


def made(kind: str, shape: tuple[int, int], seed: int) -> Kept:
    whole = {"comfy_int8_convrot": 4}.get(kind, 2 if kind.startswith("sdnq") else 1)
    shape = shape[0], -(-shape[1] // whole) * whole  # of groups that turn, of bytes
    return EVERY[kind](np.random.default_rng(seed), shape)


def read(folder: Path, kept: Kept, rows: tuple[int, int] | None = None) -> torch.Tensor:
    store = translated(Store.open(write(folder / "x.safetensors", {"a.b": kept})), kept.config)
    stored, shapes = read_shapes(store)
    piece = TensorPiece("x", ("a.b.weight",), shapes["a.b.weight"])
    return read_piece(store, piece, stored, torch.float32, rows)


@ROOMY
@given(KINDS, st.integers(1, 140), st.integers(1, 70), st.integers(0, 2**32), st.data())
def test_any_rows_of_any_shape(
    tmp_path: Path, kind: str, rows: int, width: int, seed: int, data: st.DataObject
) -> None:
    kept = made(kind, (rows, width), seed)
    first = data.draw(st.integers(0, rows - 1))
    last = data.draw(st.integers(first + 1, rows))
    whole, part = read(tmp_path, kept), read(tmp_path, kept, (first, last))
    want = kept.want
    products = "svd" in kind or "turned" in kind or "convrot" in kind  # which round by their size
    close = 1e-6 * float(np.abs(want).max()) if products else 0
    assert torch.allclose(part, whole[first:last], rtol=0, atol=close)
    error = np.abs(whole.double().numpy()[: want.shape[0], : want.shape[1]] - want).max()
    assert error <= 2e-6 * np.abs(want).max()


@st.composite
def tensors(draw: st.DrawFn) -> torch.Tensor:
    shape = draw(st.lists(st.integers(0, 40), max_size=3))
    raw = torch.tensor(draw(st.sampled_from((0.0, 1.0, -3.0, float("nan"), float("inf")))))
    return raw.expand(shape).contiguous().to(draw(st.sampled_from(DTYPES)))


@ROOMY
@given(KINDS, st.dictionaries(st.sampled_from(PARTS), st.none() | tensors(), max_size=2),
       st.booleans())  # fmt: skip
def test_any_other_tensors_are_read_or_refused(
    tmp_path: Path, kind: str, changes: dict[str, Any], configured: bool
) -> None:
    kept = made(kind, (24, 32), 1)
    some = {key: value for key, value in {**kept.tensors, **changes}.items() if value is not None}
    kept = replace(kept, tensors=some, config=kept.config if configured else {})
    start = time.process_time()
    try:
        values = read(tmp_path, kept)
    except (CorruptFile, LayoutError):
        pass
    except KeyError:  # there is no weight at all
        assert not {"weight", "weight._data", "_weight_qdata"} & some.keys()
    else:
        assert values.dim() <= 3
    assert time.process_time() - start < 1
