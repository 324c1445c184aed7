"""Matrices of a GGUF file stay in their blocks until a layer is on its way, and draw the same."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from gguf_file import encode, write_gguf, write_hole
from gguf_gemma import GEMMA, VALUES, gemma_file, on_meta
from safetensors.numpy import load_file
from torch import Tensor

from engines import open_engine
from sakuga.api.engine_spec import Budget
from sakuga.api.events import Finished, Result
from sakuga.api.request import Request
from sakuga.checkpoint.bind import bind
from sakuga.checkpoint.contents import Contents
from sakuga.checkpoint.families.gemma import GEMMA_GGUF
from sakuga.checkpoint.families.match import Match, rewrite
from sakuga.engine.networks import Networks
from sakuga.memory.residency import on_device, streamed
from sakuga.model.text import GemmaEncoder
from sakuga.weights.folded import Blocks, Folded, Stretch
from sakuga.weights.gguf import BLOCKS
from sakuga.weights.store import Store

CPU = torch.device("cpu")
IDS = torch.tensor([[2, 7, 11, 13, 17, 19, 23, 3, 5]])


def folded(kind: str, dtype: torch.dtype, shape: tuple[int, int] = (5, 512)) -> Folded:
    values = np.random.default_rng(1).normal(size=shape).astype(np.float32)
    raw = torch.frombuffer(bytearray(encode(values, kind)), dtype=torch.uint8).view(shape[0], -1)
    return Folded([Stretch(Blocks(raw, kind, shape), 0, shape[0])], dtype)


def gemma(file: Path, dtype: torch.dtype, *, fold: bool) -> GemmaEncoder:
    encoder = on_meta(lambda: GemmaEncoder(GEMMA))
    bind(encoder.model, Contents.of(Store.open(file)), dtype=dtype, folded=fold)
    return encoder.requires_grad_(False)


def matrices(encoder: GemmaEncoder) -> list[Tensor]:
    return [value for value in encoder.parameters() if value.dim() == 2]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("kind", BLOCKS)
def test_what_reads_it_gets_the_values(kind: str, dtype: torch.dtype) -> None:
    one = folded(kind, dtype)
    want = one.stretches[0].of.rows(0, 5, dtype)
    assert (one.shape, one.dtype, one.nbytes) == (want.shape, dtype, want.nbytes)
    assert torch.equal(one, want)
    assert torch.equal(torch.empty_like(want).copy_(one), want)
    assert torch.equal(one[1:3].t(), want[1:3].t())
    x = torch.randn(3, 512).to(dtype)
    assert torch.equal(torch.nn.functional.linear(x, one), torch.nn.functional.linear(x, want))
    assert all(type(each) is Tensor for each in (one + 1, one[:1], one.clone()))


def test_it_stays_folded_as_a_parameter() -> None:
    one = folded("Q4_K", torch.bfloat16)
    parameter = torch.nn.Parameter(one, requires_grad=False)
    assert isinstance(parameter, Folded)
    assert parameter.stretches is one.stretches
    assert repr(parameter) == "Folded(Q4_K, (5, 512), torch.bfloat16)"


def test_a_table_gives_the_rows_that_are_looked_up(monkeypatch: pytest.MonkeyPatch) -> None:
    one = folded("Q6_K", torch.float32)
    want = one.unfolded()
    monkeypatch.delattr(Folded, "unfolded")
    ids = torch.tensor([[4, 0, 4], [1, 2, 3]])
    with torch.inference_mode():
        assert torch.equal(torch.nn.functional.embedding(ids, one, padding_idx=0), want[ids])


def test_it_cannot_be_written() -> None:
    one = folded("Q8_0", torch.float32)
    before = one.unfolded()
    for write in (one.zero_, lambda: one.copy_(before), lambda: one.mul_(2)):
        with pytest.raises(TypeError, match="cannot be written"):
            write()
    assert torch.equal(one, before)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("kind", ["Q4_K", "Q8_0"])
def test_an_encoder_reads_alike_wherever_its_layers_are(
    tmp_path: Path, kind: str, dtype: torch.dtype
) -> None:
    file = gemma_file(tmp_path / "x.gguf", kind)
    want = gemma(file, dtype, fold=False)(IDS)
    encoder = gemma(file, dtype, fold=True)
    assert all(isinstance(each, Folded) for each in matrices(encoder))
    tables = frozenset({"embed_tokens", "layers"})
    with torch.inference_mode():
        assert torch.equal(encoder(IDS), want)
        for resident in range(3):
            with (
                on_device(encoder.model, CPU, tables),
                streamed(encoder.model.layers, CPU, resident) as layers,
            ):
                assert torch.equal(encoder.encode([IDS], layers, CPU)[0], want)
    assert all(isinstance(each, Folded) for each in matrices(encoder))


def test_a_picture_is_the_same_to_the_bit(tiny_model: Path, tmp_path: Path) -> None:
    model = Path(shutil.copytree(tiny_model, tmp_path / "tiny"))
    (file,) = (model / "transformer").glob("*.safetensors")
    tensors = {
        key: ("Q8_0" if value.ndim == 2 and value.shape[1] % 32 == 0 else "F32", value)
        for key, value in load_file(file).items()
    }
    write_gguf(file.with_suffix(".gguf"), {"general.architecture": "lumina2"}, tensors)
    file.unlink()

    def drawn(fold: bool) -> Result:
        engine = open_engine(model, budget=Budget(vram="1GB"))
        engine.networks = Networks(engine.checkpoint, "float32", folded=fold)
        (result,) = (
            event.result
            for event in engine.generate(Request("1girl", seed=5, steps=2))
            if isinstance(event, Finished)
        )
        blocks = list(engine.networks["transformer"].layers.parameters())
        assert any(isinstance(each, Folded) for each in blocks) == fold
        return result

    assert drawn(True).picture.rgb == drawn(False).picture.rgb


WIDE = replace(
    GEMMA, vocab_size=64, hidden_size=1024, intermediate_size=4096, num_hidden_layers=6,
    num_attention_heads=4, head_dim=256,
)  # fmt: skip
ANONYMOUS = """
import re, sys
from pathlib import Path
import torch

from sakuga.checkpoint.bind import bind
from sakuga.checkpoint.contents import Contents
from sakuga.memory.residency import streamed
from sakuga.model.spec import GemmaSpec
from sakuga.model.text import GemmaEncoder
from sakuga.weights.store import Store

def anonymous():
    return int(re.search("RssAnon:\\s+(\\d+)", Path("/proc/self/status").read_text())[1]) << 10

def watched(layers):
    for layer in layers:
        yield layer
        seen.append(anonymous() - before)

torch.set_num_threads(1)
with torch.device("meta"):
    encoder = GemmaEncoder(eval(sys.argv[2]))
before, seen = anonymous(), []
contents = Contents.of(Store.open(sys.argv[1]))
bind(encoder.model, contents, dtype=torch.bfloat16, folded=sys.argv[3] == "True")
encoder.requires_grad_(False)
with torch.inference_mode(), streamed(encoder.model.layers, torch.device("cpu"), 0) as layers:
    encoder.encode([torch.tensor([[1, 2, 3]])], watched(layers))
print(max(seen))
"""


@pytest.mark.long
def test_an_encoder_takes_the_memory_of_two_layers_not_of_all(tmp_path: Path) -> None:
    """Five layers of 29 MiB in bfloat16, and two slots for them."""
    with torch.device("meta"):
        state = GemmaEncoder(WIDE).model.state_dict()
    layer = sum(2 * value.numel() for key, value in state.items() if key.startswith("layers.1."))
    pieces, _ = rewrite(
        Match(GEMMA_GGUF.inverse), {key: tuple(value.shape) for key, value in state.items()}
    )
    kinds = {
        piece.target: ("F32" if len(piece.shape) < 2 else "Q4_K", piece.shape) for piece in pieces
    }
    write_hole(tmp_path / "x.gguf", VALUES, kinds)

    def most(fold: bool) -> int:
        call = [sys.executable, "-c", ANONYMOUS, tmp_path / "x.gguf", repr(WIDE), str(fold)]
        # Else glibc keeps large pieces that were freed, and now and then a copy of one more.
        gives_back = os.environ | {"MALLOC_MMAP_THRESHOLD_": str(2**20)}
        done = subprocess.run(call, capture_output=True, text=True, check=True, env=gives_back)
        return int(done.stdout)

    assert most(True) < 4 * layer
    assert most(False) > 6 * layer
