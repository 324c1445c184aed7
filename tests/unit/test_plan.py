from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from sakuga.api.receipt import StagePlan
from sakuga.engine.denoise import Denoiser, Packings, Prepared, modulated, refined
from sakuga.errors import BudgetTooSmall, OutOfMemory, RequestError
from sakuga.memory.activations import (
    Denoising,
    Segment,
    gemma_layer_peak,
    jina_layer,
    modulation_table,
)
from sakuga.memory.cards import CPU, DEFAULT, H200, RTX_3060, RTX_4060_TI, RTX_4090, nearest_card
from sakuga.memory.costs import Work, part_bytes
from sakuga.memory.ledger import Ledger
from sakuga.memory.plan import Options, make_plan, parse_bytes, smallest_limit, usable
from sakuga.memory.stages import DENOISE, denoise_levels
from sakuga.model.fused.kernel import Kernel
from sakuga.model.inventory import inventory_of
from sakuga.model.nextdit import NextDiT
from sakuga.model.packing import text_positions
from sakuga.model.spec import CHIBI, LUMINA_2, NEWBIE_3_5B, ModelSpec
from sakuga.model.text import Conditioning, GemmaEncoder, JinaEncoder
from sakuga.weights.formats import BFLOAT16, FORMATS, INT8

DTYPES = {"bfloat16": torch.bfloat16, "float32": torch.float32}
REAL = inventory_of(NEWBIE_3_5B)
ONE = Work(1024, 1024, 1, 28, 2, (256, 40), (200, 20))


def shallow(spec: ModelSpec) -> ModelSpec:
    """The same widths with two layers each: a peak lies within a layer."""
    return replace(
        spec,
        transformer=replace(spec.transformer, n_layers=2, n_refiner_layers=1),
        gemma=replace(spec.gemma, num_hidden_layers=2, full_attention_layers=()),
        jina=spec.jina and replace(spec.jina, num_hidden_layers=1),
    )


def metered(run: Callable[[], object]) -> int:
    """The peak of what a card would hold, on the meta device."""
    with torch.inference_mode(), Ledger() as ledger:
        run()
        return ledger.peak


def empty(*shape: int, dtype: torch.dtype) -> Tensor:
    return torch.empty(shape, dtype=dtype, device="meta")


@pytest.mark.parametrize(
    ("spec", "dtype"),
    [(NEWBIE_3_5B, "bfloat16"), (NEWBIE_3_5B, "float32"), (LUMINA_2, "bfloat16"),
     (CHIBI, "float32")],
    ids=lambda value: getattr(value, "name", value),
)  # fmt: skip
@pytest.mark.parametrize(
    ("side", "texts", "batch", "parts"),
    [(128, (256, 256), 1, 1), (128, (512, 40), 1, 1), (128, (512, 40), 1, 2), (64, (300, 40), 4, 3),
     (32, (90,), 3, 1), (256, (256, 40), 1, 2), (96, (512,), 1, 1), (64, (80, 80), 10, 4)],
)  # fmt: skip
@pytest.mark.parametrize("fused", [False, True])
def test_an_evaluation_takes_what_is_predicted(
    spec: ModelSpec,
    dtype: str,
    side: int,
    texts: tuple[int, ...],
    batch: int,
    parts: int,
    fused: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if fused:  # on the meta device a kernel has nothing to write; what is around it is counted
        monkeypatch.setattr(Kernel, "takes", lambda kernel, x: x.is_contiguous())
        monkeypatch.setattr(Kernel, "launch", lambda *_: True)
    shape, kind = shallow(spec).transformer, DTYPES[dtype]
    with torch.device("meta"):
        model = NextDiT(shape).to(kind)
        sides = [
            Conditioning(
                torch.empty(text, shape.cap_feat_dim),
                torch.empty(shape.clip_text_dim) if shape.clip_text_dim else None,
            )
            for text in texts
        ]
    times = [step / 28 for step in range(28)]
    packings = Packings.of(model, texts, batch, (side, side), parts)

    def run() -> None:
        x = empty(batch, shape.in_channels, side, side, dtype=torch.float32)
        places = [text_positions(model.spec, (text,)) for text in texts]
        captions = refined(model, sides, [one.to(x.device) for one in places])
        prepared = Prepared(captions, *modulated(model, sides, times))
        denoiser = Denoiser(model, prepared, packings.to(x.device))
        if len(sides) == 1:
            denoiser.conditional(x, times[0])
        else:
            denoiser.both(x, times[0])

    segments = tuple(Segment(side * side // 4, text) for text in texts for _ in range(batch))
    predicted = Denoising(shape, batch, segments, parts, held=1, size=kind.itemsize, fused=fused)
    rows = modulation_table(shape, len(times), len(texts), kind.itemsize)
    whole = predicted.kept + predicted.working + rows + predicted.latents
    assert 0.98 <= whole / metered(run) <= 1.05


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("spec", [NEWBIE_3_5B, LUMINA_2, CHIBI], ids=lambda spec: spec.name)
@pytest.mark.parametrize("tokens", [40, 512, 2048])
def test_an_encoder_takes_what_is_predicted(spec: ModelSpec, dtype: str, tokens: int) -> None:
    kind, few = DTYPES[dtype], shallow(spec)
    with torch.device("meta"):
        gemma = GemmaEncoder(few.gemma).to(kind).model.layers[0]
        layers = [(gemma, few.gemma.hidden_size,
                   gemma_layer_peak(few.gemma, tokens, kind.itemsize))]  # fmt: skip
        if few.jina:
            jina = JinaEncoder(few.jina).to(kind).model.layers[0]
            layers.append((jina, few.jina.hidden_size,
                           jina_layer(few.jina, tokens, kind.itemsize)))  # fmt: skip
    for layer, width, predicted in layers:
        x = empty(1, tokens, width, dtype=kind)
        rotary = (empty(1, tokens, layer.self_attn.head_dim, dtype=kind),) * 2
        peak = metered(lambda layer=layer, x=x, rotary=rotary: layer(x, rotary))
        assert 0.98 <= predicted / peak <= 1.05


def test_a_flat_block_of_the_real_transformer_has_the_bytes_of_its_weights() -> None:
    plain = part_bytes(REAL.transformer, BFLOAT16, BFLOAT16)
    whole = sum(2 * torch.Size(w.shape).numel() for w in REAL.transformer.blocks[0])
    assert len(plain.blocks) == 38
    assert whole <= plain.blocks[0] < whole + 11 * 256
    half = part_bytes(REAL.transformer, INT8, BFLOAT16)
    assert plain.blocks[0] / 2 < half.blocks[0] < plain.blocks[0] / 1.99


@pytest.mark.parametrize(
    ("text", "size"),
    [("8GB", 8 * 10**9), ("7.5GiB", 15 * 2**29), ("900MB", 9 * 10**8), ("512 mib", 2**29),
     ("123456", 123456), ("1.5gb", 1_500_000_000), ("64KiB", 65536)],
)  # fmt: skip
def test_memory_is_read_as_people_write_it(text: str, size: int) -> None:
    assert parse_bytes(text) == size


@pytest.mark.parametrize("text", ["", "GB", "8 GBs", "-1GB", "8,5GB", "lots", "1e9", "8G B"])
def test_what_is_no_amount_of_memory_is_refused(text: str) -> None:
    with pytest.raises(RequestError, match="Write 8GB"):
        parse_bytes(text)


@pytest.mark.parametrize("peak", [1, 10**6, 123_456_789, 7 * 10**9 + 1])
def test_the_smallest_limit_is_the_smallest(peak: int) -> None:
    limit = smallest_limit(peak)
    assert usable(limit - 1) < peak <= usable(limit)


def test_with_room_nothing_but_the_encoders_moves() -> None:
    plan = make_plan(REAL, 80 * 10**9, ONE, H200, Options())
    denoise, decode = plan.stage("denoise"), plan.stage("decode")
    assert (denoise.resident, denoise.streamed, denoise.parts, denoise.batches) == (38, 0, 1, 1)
    assert (decode.strips, decode.recompute) == (8, False)  # measured faster than whole maps
    assert plan.stage("gemma").streamed == 33
    assert not plan.kept


def test_without_a_limit_a_plan_is_the_fastest() -> None:
    free = make_plan(REAL, None, ONE, H200, Options())
    assert free.stages == make_plan(REAL, 10**12, ONE, H200, Options()).stages


def test_the_goals_of_memory_are_planned() -> None:
    assert make_plan(REAL, 3 * 2**29, ONE, RTX_4060_TI, Options()).peak_bytes <= 3 * 2**29
    large = replace(ONE, width=2048, height=2048)
    assert make_plan(REAL, 4 * 2**30, large, RTX_4060_TI, Options()).peak_bytes <= 4 * 2**30
    for work in (replace(ONE, batch=8), large):
        assert make_plan(REAL, 16 * 10**9, work, RTX_4060_TI, Options()).peak_bytes < 16 * 10**9


def test_networks_stay_where_there_is_room_for_all_and_it_was_asked_for() -> None:
    keep = Options(keep_resident=True)
    kept = make_plan(REAL, 80 * 10**9, ONE, H200, keep)
    assert kept.kept
    assert all(stage.streamed == 0 for stage in kept.stages)
    assert min(stage.peak_bytes for stage in kept.stages) > 12 * 10**9
    assert kept.seconds == make_plan(REAL, 80 * 10**9, ONE, H200, Options()).seconds
    tight = make_plan(REAL, 8 * 10**9, ONE, H200, keep)
    assert not tight.kept
    assert "no room" in tight.reasons[0].why


def test_weights_are_rounded_only_when_asked() -> None:
    exact = make_plan(REAL, 10**9, ONE, RTX_4090, Options())
    assert {stage.weights for stage in exact.stages} == {"bfloat16"}
    least = smallest(Options())
    lossy = make_plan(REAL, least - 1, ONE, RTX_4090, Options(allow_lossy=True))
    assert lossy.stage("denoise").weights == "int8"
    assert smallest(Options(allow_lossy=True)) < least
    asked = make_plan(REAL, None, ONE, RTX_4090, Options(weights="int4"))
    assert [stage.weights for stage in asked.stages] == ["int4", "bfloat16", "int4", "bfloat16"]


def smallest(options: Options) -> int:
    with pytest.raises(BudgetTooSmall) as refused:
        make_plan(REAL, 0, ONE, RTX_4090, options)
    assert isinstance(refused.value, OutOfMemory)
    return refused.value.smallest


def test_gemma_never_meets_float16() -> None:
    for weights in ("auto", "float16"):
        plan = make_plan(REAL, None, ONE, RTX_4090, Options("float16", weights))
        assert plan.stage("denoise").weights == "float16"
        assert plan.stage("gemma").weights in ("float32", "bfloat16")
        assert plan.stage("decode").weights == "float32"


def test_an_unknown_storage_format_is_refused() -> None:
    with pytest.raises(RequestError, match="storage format"):
        make_plan(REAL, None, ONE, H200, Options(weights="nf4"))


def test_every_reason_names_a_lever_and_what_else_would_be() -> None:
    tight = make_plan(REAL, 10**9, replace(ONE, batch=2), RTX_3060, Options())
    told = {(reason.stage, reason.lever): reason for reason in tight.reasons}
    assert told["denoise", "stream"].pulled
    assert "or more, of 936 MB usable" in told["denoise", "stream"].why
    roomy = make_plan(REAL, 60 * 10**9, replace(ONE, batch=2), RTX_3060, Options())
    told = {(reason.stage, reason.lever): reason for reason in roomy.reasons}
    assert told["denoise", "stream"].why == "every block stays: there is room"
    assert told["decode", "strips"].pulled
    assert "otherwise" in told["decode", "strips"].why
    assert not told["decode", "recompute"].pulled


def test_less_pinned_memory_never_makes_a_plan_faster() -> None:
    seconds = [
        make_plan(REAL, 3 * 10**9, ONE, RTX_4090, Options(pinned=pinned)).seconds
        for pinned in (0, 10**9, 4 * 10**9, None)
    ]
    assert seconds == sorted(seconds, reverse=True)
    assert seconds[0] > seconds[-1]


def test_streaming_takes_two_slots_and_of_a_single_block_one() -> None:
    blocks = part_bytes(REAL.transformer, BFLOAT16, BFLOAT16)
    size, levels = blocks.blocks[0], blocks.levels()
    assert [(level.held - blocks.rest) // size for level in levels] == [
        min(stay + 2, 38) for stay in range(39)
    ]
    assert levels[0].streamed == 38 * size


def test_a_simulated_card_has_no_libraries_and_no_link_to_hide() -> None:
    work = replace(ONE, width=256, height=256)
    costs = DENOISE.costs(inventory_of(CHIBI), work, CPU, "float32")
    levels = denoise_levels(costs, "float32", 1, 1)
    resident: StagePlan = levels[-1]
    assert all(one.seconds > resident.seconds for one in levels[:-1])
    assert levels[0].peak_bytes < resident.peak_bytes
    assert FORMATS["float32"].bits == 32


@pytest.mark.parametrize(
    ("title", "card"),
    [("NVIDIA H200", H200), ("NVIDIA GeForce RTX 4060 Ti", RTX_4060_TI),
     ("NVIDIA GeForce RTX 3060", RTX_3060), ("NVIDIA GeForce RTX 4090 Laptop GPU", RTX_4090),
     ("Some other card", DEFAULT)],
)  # fmt: skip
def test_a_driver_s_name_for_a_card_finds_its_profile(title: str, card: object) -> None:
    assert nearest_card(title) is card
