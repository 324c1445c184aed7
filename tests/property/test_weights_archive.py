"""Whatever torch saves reads back bit for bit; whatever else comes is refused, or says the same."""

from __future__ import annotations

import contextlib
import io
import time
import zipfile
from collections import OrderedDict
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from effort import examples
from hostile import torch_zip
from sakuga.errors import WeightsError
from sakuga.weights.archive import Archive, open_archive
from sakuga.weights.pickles import Named, StorageRef, TensorRef, read_pickle

ROOMY = settings(
    max_examples=examples(100),
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
DTYPES = {
    torch.bool: "BOOL", torch.uint8: "U8", torch.int8: "I8", torch.int16: "I16",
    torch.int32: "I32", torch.int64: "I64", torch.uint16: "U16", torch.uint32: "U32",
    torch.uint64: "U64", torch.float16: "F16", torch.bfloat16: "BF16", torch.float32: "F32",
    torch.float64: "F64", torch.float8_e4m3fn: "F8_E4M3", torch.float8_e5m2: "F8_E5M2",
}  # fmt: skip
NAMES = st.text("abé0 _", min_size=1, max_size=4)
PLAIN = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**63), 2**63 - 1),
    st.floats(),
    st.text(max_size=5),
    st.text(min_size=256, max_size=300),
    st.just((1, "a", (2, 3, 4, 5))),
)


@st.composite
def tensors(draw: st.DrawFn) -> torch.Tensor:
    """A tensor of random bytes: whole, a slice, turned, spread, or with nothing in it."""
    dtype = draw(st.sampled_from(list(DTYPES)))
    shape = draw(st.lists(st.integers(0, 4), max_size=4))
    count = int(torch.tensor(shape, dtype=torch.int64).prod()) * dtype.itemsize
    seed = torch.Generator().manual_seed(draw(st.integers(0, 99)))
    top = 2 if dtype == torch.bool else 256
    data = torch.randint(0, top, (count,), generator=seed, dtype=torch.uint8)
    whole = data.view(dtype).view(shape)
    if whole.dim() and whole.numel():
        way = draw(st.sampled_from(["whole", "slice", "flip", "spread", "step", "parameter"]))
        if way == "slice":
            return whole[draw(st.integers(0, shape[0])) :]
        if way == "flip":
            return whole.mT if whole.dim() == 2 else whole.movedim(0, -1)
        if way == "spread":
            return whole[:1].expand(3, *shape[1:])
        if way == "step":
            return whole[..., ::2]
        if way == "parameter":
            return torch.nn.Parameter(whole, requires_grad=dtype.is_floating_point)
    return whole


@st.composite
def states(draw: st.DrawFn) -> dict[str, Any]:
    """A state dict: nested dicts and lists of tensors and plain values, some of them shared."""
    pool = draw(st.lists(tensors(), min_size=1, max_size=4))
    pool += [tensor[:1] for tensor in pool if tensor.dim()]  # of the same storage
    leaf = st.one_of(st.sampled_from(pool), st.sampled_from(pool), PLAIN)
    tree = st.recursive(
        leaf,
        lambda inner: st.one_of(
            st.dictionaries(NAMES, inner, max_size=3),
            st.dictionaries(NAMES, inner, max_size=3).map(OrderedDict),
            st.lists(inner, max_size=3),
            st.lists(inner, max_size=3).map(tuple),
        ),
        max_leaves=8,
    )
    state = draw(st.dictionaries(NAMES, tree, max_size=3))
    state["weight"] = pool[0]
    return state


def flat(tree: Any, name: str = "") -> dict[str, torch.Tensor]:
    """Every tensor by its dotted name."""
    if isinstance(tree, torch.Tensor):
        return {name: tree}
    if not isinstance(tree, dict | list | tuple):
        return {}
    pairs = tree.items() if isinstance(tree, dict) else enumerate(tree)
    found = {}
    for key, value in pairs:
        found |= flat(value, f"{name}.{key}" if name else str(key))
    return found


def raw(tensor: torch.Tensor) -> bytes:
    whole = tensor.detach().clone(memory_format=torch.contiguous_format).reshape(-1)
    return whole.view(torch.uint8).numpy().tobytes()


@ROOMY
@given(states(), st.integers(2, 5), st.sampled_from([(), ("state_dict",), ("model", "state_dict")]))
def test_what_torch_saves_reads_back(
    tmp_path: Path, state: dict[str, Any], protocol: int, wrap: tuple[str, ...]
) -> None:
    tree = state
    for name in wrap:
        tree = {name: tree, "epoch": 3, "optimizer": {"state": {0: {"step": torch.zeros(1)}}}}
    file = tmp_path / "x.pt"
    torch.save(tree, file, pickle_protocol=protocol)
    archive, want = open_archive(file), flat(state)
    assert archive.shapes() == {key: tuple(value.shape) for key, value in want.items()}
    assert archive.dtypes() == {key: DTYPES[value.dtype] for key, value in want.items()}
    for key in archive:
        assert bytes(archive.view(key)) == raw(want[key])
        assert archive.info(key).nbytes == len(archive.view(key))
    beside = {name for name in ("epoch", "optimizer") if wrap}
    assert beside <= set(archive.dropped)
    assert not set(archive.dropped) & set(archive)


def example() -> bytes:
    """An archive with a view, a parameter, shared storage and a wrapped state dict."""
    linear = torch.nn.Linear(5, 3)
    state: dict[str, Any] = linear.state_dict()
    state["turned"] = linear.weight.detach().t()
    state["parameter"] = linear.bias
    state["eight"] = torch.ones(7).to(torch.float8_e5m2)
    file = io.BytesIO()
    torch.save({"state_dict": state, "epoch": 1}, file)
    return file.getvalue()


EXAMPLE = example()


def contents(archive: Archive) -> dict[str, tuple[str, tuple[int, ...], bytes]]:
    return {
        key: (archive.info(key).dtype, archive.info(key).shape, bytes(archive.view(key)))
        for key in archive
    }


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Any:
    file = tmp_path_factory.mktemp("archive") / "x.pt"
    file.write_bytes(EXAMPLE)
    return contents(open_archive(file))


def same_or_refused(file: Path, data: bytes, want: Any) -> bool:
    """Whether a damaged archive still opens, in which case it says what the whole one said."""
    file.write_bytes(data)
    start = time.process_time()
    try:
        got = contents(open_archive(file))
    except WeightsError:
        return False
    finally:
        assert time.process_time() - start < 1
    assert got == want
    return True


def test_an_archive_cut_short_anywhere_is_refused(tmp_path: Path, original: Any) -> None:
    file = tmp_path / "x.pt"
    assert same_or_refused(file, EXAMPLE, original)
    assert not any(same_or_refused(file, EXAMPLE[:n], original) for n in range(len(EXAMPLE)))


def test_a_flipped_bit_anywhere_changes_no_tensor(tmp_path: Path, original: Any) -> None:
    data, opened = bytearray(EXAMPLE), 0
    for place in range(0, len(data), 3):
        bit = 1 << place % 8
        data[place] ^= bit
        opened += same_or_refused(tmp_path / "x.pt", bytes(data), original)
        data[place] ^= bit
    assert 0 < opened < len(data) // 3  # most bytes matter; dates and padding do not


@ROOMY
@given(st.data())
def test_changed_bytes_change_no_tensor(tmp_path: Path, original: Any, data: st.DataObject) -> None:
    damaged = bytearray(EXAMPLE)
    for _ in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.integers(0, len(damaged) - 1))
        damaged[place : place + data.draw(st.integers(0, 9))] = data.draw(st.binary(max_size=9))
    same_or_refused(tmp_path / "x.pt", bytes(damaged), original)


def program() -> bytes:
    with zipfile.ZipFile(io.BytesIO(EXAMPLE)) as archive:
        return archive.read(next(name for name in archive.namelist() if name.endswith("/data.pkl")))


PROGRAM = program()


def plain(value: Any, depth: int = 0) -> bool:
    """Whether a value is made of what a pickle may build, to some depth, and of nothing else."""
    if isinstance(value, dict | list | tuple) and depth < 9:
        members = [*value, *value.values()] if isinstance(value, dict) else value
        return type(value) in (dict, list, tuple) and all(plain(x, depth + 1) for x in members)
    known = (str, int, float, bool, type(None), Named, StorageRef, TensorRef, dict, list, tuple)
    return type(value) in known


@settings(max_examples=examples(400), deadline=None)
@given(st.data())
def test_a_mutilated_pickle_builds_plain_values_or_is_refused(data: st.DataObject) -> None:
    damaged = bytearray(PROGRAM)
    for _ in range(data.draw(st.integers(1, 5))):
        place = data.draw(st.integers(0, len(damaged) - 1))
        damaged[place : place + data.draw(st.integers(0, 3))] = data.draw(st.binary(max_size=3))
    start = time.process_time()
    with contextlib.suppress(WeightsError):
        assert plain(read_pickle(bytes(damaged), "x"))
    assert time.process_time() - start < 1


@ROOMY
@given(st.binary(max_size=80))
def test_noise_is_no_pickle_that_does_harm(tmp_path: Path, noise: bytes) -> None:
    torch_zip(tmp_path / "x.pt", b"\x80\x02" + noise + b".")
    with pytest.raises(WeightsError):
        open_archive(tmp_path / "x.pt")
