"""What was encoded once is found again with the same bits, or not at all."""

from __future__ import annotations

import os
import resource
import shutil
import threading
from dataclasses import fields, replace
from pathlib import Path

import pytest
import torch
from tiny import TINY
from torch import Tensor

from sakuga.engine.encode import EmbeddingCache, EmbeddingKey, device_kind
from sakuga.model.text import GemmaEncoder, JinaEncoder

CPU = torch.device("cpu")
KEY = EmbeddingKey("gemma", "i", "w", "bfloat16", "float32", "cpu", "", "1")


def bits(tensors: tuple[Tensor, ...] | None) -> list[tuple[torch.dtype, torch.Size, bytes]]:
    return [
        (one.dtype, one.shape, one.contiguous().view(-1).view(torch.uint8).numpy().tobytes())
        for one in tensors or ()
    ]


def entry(folder: Path, key: EmbeddingKey = KEY) -> Path:
    return folder / "embeddings" / f"{key.name}.safetensors"


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_every_bit_comes_back(tmp_path: Path, dtype: torch.dtype) -> None:
    features = torch.randn(7, 5).to(dtype)
    features[0, :2] = torch.tensor([-0.0, torch.finfo(dtype).smallest_normal / 2])
    rows = torch.randn(4, 6).to(dtype)
    given = (features, rows.T[1:], rows[2], torch.tensor(3.0, dtype=dtype), rows[:0])
    assert EmbeddingCache(tmp_path).put(KEY, given) is None
    assert bits(EmbeddingCache(tmp_path).get(KEY)) == bits(given)


def test_what_real_encoders_made_is_what_they_would_make(tmp_path: Path) -> None:
    cache = EmbeddingCache(tmp_path)
    ids = [3, 14, 15, 9, 26]
    for name, encoder in (("gemma", GemmaEncoder(TINY.gemma)), ("jina", JinaEncoder(TINY.jina))):
        encoder.eval().requires_grad_(False)
        key = EmbeddingKey.of(
            name, ids, weights="w", storage="float32", compute=torch.float32, device=CPU
        )
        assert cache.get(key) is None
        cache.put(key, [encoder(torch.tensor([ids]))[0]])
        assert bits(cache.get(key)) == bits((encoder(torch.tensor([ids]))[0],))


def test_each_field_makes_another_key() -> None:
    keys = [KEY, *(replace(KEY, **{field.name: "other"}) for field in fields(KEY))]
    assert len({key.name for key in keys}) == 1 + len(fields(KEY))


def test_a_key_knows_the_ids_the_device_and_the_code() -> None:
    def key(ids: list[int], compute: torch.dtype = torch.float32) -> EmbeddingKey:
        return EmbeddingKey.of(
            "jina", ids, weights="w", storage="int8", compute=compute, device=CPU
        )

    assert key([1, 23]) == key([1, 23])
    assert len({key([1, 23]), key([12, 3]), key([1, 2, 3]), key([]), key([], torch.float16)}) == 5
    assert f"torch {torch.__version__}" in key([]).code
    threads, kind = torch.get_num_threads(), device_kind(CPU)
    torch.set_num_threads(threads + 1)
    try:
        assert device_kind(CPU) != kind
    finally:
        torch.set_num_threads(threads)


def test_a_file_cut_anywhere_is_dropped(tmp_path: Path) -> None:
    cache, file = EmbeddingCache(tmp_path), entry(tmp_path)
    cache.put(KEY, [torch.randn(2, 3)])
    whole = file.read_bytes()
    for length in range(len(whole)):
        file.write_bytes(whole[:length])
        assert cache.get(KEY) is None, length
        assert not file.exists()
    file.write_bytes(whole + b"\0")
    assert cache.get(KEY) is None
    file.write_bytes(whole)
    assert cache.get(KEY) is not None


def test_a_byte_changed_anywhere_changes_no_bit(tmp_path: Path) -> None:
    cache, file = EmbeddingCache(tmp_path), entry(tmp_path)
    given = (torch.randn(2, 3), torch.randn(3).bfloat16())
    cache.put(KEY, given)
    whole = file.read_bytes()
    for place in range(len(whole)):
        for change in (1, 255):
            damaged = bytearray(whole)
            damaged[place] ^= change
            file.write_bytes(damaged)
            found = cache.get(KEY)
            # Only in the padding behind the header may a byte change unnoticed.
            assert found is None or bits(found) == bits(given), (place, change)


def test_what_belongs_to_others_is_dropped(tmp_path: Path) -> None:
    cache, other = EmbeddingCache(tmp_path), replace(KEY, ids="j")
    cache.put(other, [torch.randn(2, 3)])
    strangers = [b"PK\3\4", b"\x80\4K\1.", bytes(8), b"\2\0\0\0\0\0\0\0{}", b"[" * 99999, b""]
    for stranger in (entry(tmp_path, other).read_bytes(), *strangers):
        entry(tmp_path).write_bytes(stranger)
        assert cache.get(KEY) is None
        assert not entry(tmp_path).exists()


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_what_is_not_finite_is_not_kept(tmp_path: Path, value: float) -> None:
    cache = EmbeddingCache(tmp_path)
    assert cache.put(KEY, [torch.zeros(3), torch.tensor([1.0, value])]) is None
    assert not entry(tmp_path).exists()


def test_the_limit_holds_and_the_longest_unused_goes(tmp_path: Path) -> None:
    EmbeddingCache(tmp_path / "scale").put(KEY, [torch.randn(100)])
    size = entry(tmp_path / "scale").stat().st_size
    cache = EmbeddingCache(tmp_path, limit=3 * size)
    keys = [replace(KEY, ids=str(i)) for i in range(5)]
    for age, key in zip((40, 30, 20), keys, strict=False):
        cache.put(key, [torch.randn(100)])
        os.utime(entry(tmp_path, key), (age, age))
    assert cache.get(keys[2]) is not None
    cache.put(keys[3], [torch.randn(100)])
    cache.put(keys[4], [torch.randn(100 + 2 * size)])  # alone more than the limit
    assert [cache.get(key) is not None for key in keys] == [True, False, True, True, False]


def test_a_folder_that_cannot_be_written_is_said_once(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    cache = EmbeddingCache(tmp_path / "file")
    said = cache.put(KEY, [torch.zeros(3)])
    assert said is not None
    assert str(tmp_path / "file") in said
    assert cache.put(KEY, [torch.zeros(3)]) is None
    assert cache.get(KEY) is None


def test_a_full_disk_leaves_nothing_behind(tmp_path: Path) -> None:
    cache = EmbeddingCache(tmp_path)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))
    try:
        said = cache.put(KEY, [torch.zeros(1000)])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert said is not None
    assert list((tmp_path / "embeddings").iterdir()) == []
    assert cache.put(KEY, [torch.zeros(1000)]) is None
    assert cache.get(KEY) is not None


def test_threads_share_a_cache_that_evicts_and_vanishes(tmp_path: Path) -> None:
    made = {replace(KEY, ids=str(i)): (torch.randn(50, 20),) for i in range(6)}
    cache, failures = EmbeddingCache(tmp_path, limit=15_000), []

    def work() -> None:
        try:
            for _ in range(40):
                for key, tensors in made.items():
                    cache.put(key, tensors)
                    found = cache.get(key)
                    assert found is None or bits(found) == bits(tensors)
        except BaseException as error:
            failures.append(error)
            raise

    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        shutil.rmtree(tmp_path / "embeddings", ignore_errors=True)
        threads[0].join(0.02)
        threads[1].join(0.02)
    assert failures == []
