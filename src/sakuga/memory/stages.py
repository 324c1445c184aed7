"""The stages of a drawing, one row each: whose network it runs, and every way it can be run.

Whoever plans, runs, shows or reports stages reads this table. A new stage is a row here, and
the file with its body in `engine`; the main path says when it runs.

The bytes follow `model.text`, `model.nextdit` and `model.vae` line by line; a test holds them to
the real modules, counted by `memory.ledger` at the real size.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace

from sakuga.api.receipt import StagePlan
from sakuga.memory.activations import (
    Denoising,
    Segment,
    decode_flops,
    decode_peak,
    encode_flops,
    encode_peak,
    gemma_layer_peak,
    jina_layer,
    modulation_table,
    strip_choices,
)
from sakuga.memory.cards import Card
from sakuga.memory.costs import LAUNCHES, Costs, Work, with_holes
from sakuga.memory.reasons import BATCHES, FORMAT, PARTS, RECOMPUTE, STREAM, STRIPS, Lever
from sakuga.model.inventory import Inventory, NetworkWeights
from sakuga.model.spec import AUTOENCODER, TEXT_ENCODER, TEXT_ENCODER_2, TRANSFORMER, ComponentKind

# Times that what stands between products moves the hidden states of a block, in and out: by
# kernels of a card, counted; by torch's own operations, as measured on an H100.
FUSED_TRAFFIC, TRAFFIC = 25, 120
# Measured while decoding: with whole maps a card needs so many times as long; every strip takes
# the host that many seconds.
WHOLE, STRIP = 1.3, 1e-3

Ways = Callable[[Costs, Iterable[str]], Iterator[StagePlan]]


def gemma_ways(costs: Costs, forms: Iterable[str]) -> Iterator[StagePlan]:
    """Gemma with none, one ... all of its layers on the card, stored in each of `forms`."""
    spec, texts = costs.spec.gemma, costs.work.gemma_tokens
    for form in forms:
        beside = gemma_layer_peak(spec, max(texts), costs.size, costs.unfolded(form))
        yield from _ways(costs, form, texts, beside, spec.hidden_size)


def jina_ways(costs: Costs, forms: Iterable[str]) -> Iterator[StagePlan]:
    """Jina, in the same way."""
    spec, texts = costs.spec.jina, costs.work.jina_tokens
    assert spec is not None  # or there is no such stage
    for form in forms:
        beside = jina_layer(spec, max(texts), costs.size)
        yield from _ways(costs, form, texts, beside, spec.hidden_size)


def _ways(
    costs: Costs, form: str, texts: tuple[int, ...], layer: int, width: int
) -> Iterator[StagePlan]:
    """texts: their lengths in tokens. layer: bytes of one at its peak. width: of a feature."""
    blocks = len(costs.network.blocks)
    beside = layer + sum(texts) * width * costs.size + costs.card.workspace
    seconds = 2.0 * sum(texts) * costs.values / costs.card.peak(costs.compute)
    seconds += len(texts) * blocks * LAUNCHES
    seconds += len(texts) * costs.unfolding(form) / (costs.card.memory_gbs * 1e9)
    taken = costs.passes(1, seconds, form)
    for level, whole in zip(costs.levels(form), taken, strict=True):
        yield StagePlan(
            costs.stage,
            form,
            costs.compute,
            resident=level.resident,
            streamed=blocks - level.resident,
            peak_bytes=level.held + beside,
            reserved_bytes=level.held + with_holes(beside),
            seconds=whole,
        )


def denoise_ways(costs: Costs, forms: Iterable[str]) -> Iterator[StagePlan]:
    """Every number of groups of pictures, of parts of a pass, and of blocks on the card."""
    work = costs.work
    for form in forms:
        for batches in splits(work.batch):
            segments = -(-work.batch // batches) * work.branches
            for parts in splits(segments):
                yield from denoise_levels(costs, form, batches, parts)


def splits(count: int) -> tuple[int, ...]:
    """The numbers of groups that `count` things can be cut into so that none is empty.

    Of several numbers with groups of one size only the smallest is of use.
    """
    sizes = {-(-count // groups) for groups in range(1, count + 1)}
    return tuple(sorted(-(-count // size) for size in sizes))


def denoise_levels(costs: Costs, form: str, batches: int, parts: int) -> tuple[StagePlan, ...]:
    """The denoising with none, one ... all of its blocks on the card.

    `batches` groups of pictures, each through all evaluations; within them `parts` groups of
    segments, each through a block in turn.
    """
    work, weights, blocks = costs.work, costs.weights(form), len(costs.network.blocks)
    group = -(-work.batch // batches)
    last = work.batch - group * (batches - 1)
    beside = _activations(costs, form, group, parts) + costs.card.workspace
    beside += costs.latents(work.batch - last)  # of the groups that were denoised before
    reserved = with_holes(beside)
    copied = costs.copying(sum(weights.passing))
    runs = [(_evaluation(costs, form, group, parts), batches - 1)]
    runs += [(_evaluation(costs, form, last, parts), 1)]
    taken = [
        (times, costs.passes(work.evaluations, compute, form)) for compute, times in runs if times
    ]
    return tuple(
        StagePlan(
            costs.stage,
            form,
            costs.compute,
            resident=level.resident,
            streamed=blocks - level.resident,
            batches=batches,
            parts=parts,
            peak_bytes=level.held + beside,
            reserved_bytes=level.held + reserved,
            seconds=copied + sum([times * seconds[place] for times, seconds in taken]),
        )
        for place, level in enumerate(costs.levels(form))
    )


def _segments(costs: Costs, pictures: int) -> tuple[Segment, ...]:
    """The segments of a group of pictures, branch by branch."""
    side = costs.spec.vae.downscale * costs.spec.transformer.patch_size
    image = (costs.work.width // side) * (costs.work.height // side)  # tokens of a picture
    texts = costs.work.captions or costs.work.gemma_tokens[: costs.work.branches]
    return tuple(Segment(image, text) for text in texts for _ in range(pictures))


def _activations(costs: Costs, form: str, pictures: int, parts: int) -> int:
    """Bytes beside the weights while a group of pictures is denoised."""
    spec, work = costs.spec.transformer, costs.work
    segments, unfolded = _segments(costs, pictures), costs.unfolded(form)
    again = costs.network.again
    run = Denoising(
        spec,
        pictures,
        segments,
        parts,
        work.held,
        costs.size,
        unfolded,
        again,
        costs.card.fused,
        work.regions,
    )
    rows = modulation_table(spec, work.times or work.evaluations, work.branches, costs.size)
    return run.kept + run.latents + run.working + rows


def _evaluation(costs: Costs, form: str, pictures: int, parts: int) -> float:
    """Seconds that one evaluation of `pictures` computes."""
    spec, blocks, card = costs.spec.transformer, costs.network.blocks, costs.card
    segments = _segments(costs, pictures)
    tokens = sum(segment.tokens for segment in segments)
    linear = 2.0 * tokens * costs.values
    squares = sum(segment.tokens**2 for segment in segments)
    attention = 4.0 * squares * spec.dim * len(blocks)
    traffic = FUSED_TRAFFIC if card.fused else TRAFFIC
    moved = traffic * tokens * spec.dim * costs.size * len(blocks)
    moved += parts * costs.unfolding(form)
    return (
        linear / card.peak(costs.compute)
        + attention / card.attention_peak(costs.compute)
        + moved / (card.memory_gbs * 1e9)
        + parts * len(blocks) * LAUNCHES
    )


def encode_ways(costs: Costs, forms: Iterable[str]) -> Iterator[StagePlan]:
    """Pictures to start from, in the same way."""
    for form in forms:
        for strips, recompute in strip_choices(costs.work.height):
            yield _coded(costs, form, strips, recompute, encoding=True)


def decode_ways(costs: Costs, forms: Iterable[str]) -> Iterator[StagePlan]:
    """Whole, or in every number of strips that is of use."""
    for form in forms:
        for strips, recompute in strip_choices(costs.work.height):
            yield _coded(costs, form, strips, recompute)


def _coded(
    costs: Costs, form: str, strips: int, recompute: bool, *, encoding: bool = False
) -> StagePlan:
    """One picture after the other, each in `strips`."""
    spec, work, card = costs.spec.vae, costs.work, costs.card
    pictures = work.encodes if encoding else work.batch
    rest = costs.weights(form).rest
    copied = not card.unified  # by cuDNN, into its own layout
    price = encode_peak if encoding else decode_peak
    peak = price(spec, work.width, work.height, costs.size, strips, recompute, copied)
    count = encode_flops if encoding else decode_flops
    operations = count(spec, work.width, work.height, strips, recompute)
    seconds = operations / card.convolution_peak(costs.compute)
    if strips > 1:
        seconds += strips * STRIP
    elif not card.unified:
        seconds *= WHOLE
    beside = peak + costs.latents(pictures) + card.workspace
    return StagePlan(
        costs.stage,
        form,
        costs.compute,
        batches=pictures,
        strips=strips,
        recompute=recompute,
        peak_bytes=rest + beside,
        reserved_bytes=rest + with_holes(beside),
        seconds=costs.copying(rest) + pictures * seconds,
    )


def the_other_way(network: NetworkWeights) -> NetworkWeights:
    """The weights of an autoencoder while it encodes: what idles while it decodes."""
    return replace(network, rest=network.idle, idle=network.rest)


@dataclass(frozen=True, slots=True)
class Stage:
    """One stage: its name in plans, receipts and reports, and the network it runs.

    `ways`: every way to run it, priced. `levers`: what it can do to save memory. `storage`:
    the matrices of its blocks may lie in a storage format. `half`: it stays finite in float16;
    otherwise it computes in float32 where a request computes in float16. `needed`: whether a
    drawing has this stage. `part`: its network's weights, as they are while it runs.
    """

    name: str
    component: ComponentKind
    ways: Ways
    levers: tuple[Lever, ...]
    storage: bool = False
    half: bool = False
    needed: Callable[[Work], bool] = lambda work: work.evaluations > 0
    part: Callable[[NetworkWeights], NetworkWeights] = lambda network: network

    def compute(self, dtype: str) -> str:
        """The dtype it computes in, where the request computes in `dtype`."""
        return "float32" if dtype == "float16" and not self.half else dtype

    def network(self, inventory: Inventory) -> NetworkWeights:
        """The weights of its network."""
        part = getattr(inventory, self.component.field)
        assert isinstance(part, NetworkWeights)
        return self.part(part)

    def of(self, inventory: Inventory) -> bool:
        """Whether a model has its network."""
        return getattr(inventory, self.component.field) is not None

    def costs(
        self, inventory: Inventory, work: Work, card: Card, dtype: str, pinned: int | None = None
    ) -> Costs:
        """What prices its network; `dtype` is the request's."""
        network, compute = self.network(inventory), self.compute(dtype)
        return Costs(self.name, inventory.spec, network, work, card, compute, pinned)


GEMMA = Stage("gemma", TEXT_ENCODER, gemma_ways, (STREAM, FORMAT), storage=True)
JINA = Stage("jina", TEXT_ENCODER_2, jina_ways, (STREAM,))
DENOISE = Stage(
    "denoise", TRANSFORMER, denoise_ways, (STREAM, PARTS, BATCHES, FORMAT), storage=True, half=True
)
DECODE = Stage("decode", AUTOENCODER, decode_ways, (STRIPS, RECOMPUTE), needed=lambda work: True)
ENCODE = Stage(
    "encode", AUTOENCODER, encode_ways, (STRIPS, RECOMPUTE), needed=lambda work: work.encodes > 0,
    part=the_other_way,
)  # fmt: skip

STAGES = (GEMMA, JINA, ENCODE, DENOISE, DECODE)  # in the order a drawing runs them


def stages_of(inventory: Inventory, work: Work) -> tuple[Stage, ...]:
    """The stages of a drawing with a model, in the order it runs them."""
    return tuple(stage for stage in STAGES if stage.of(inventory) and stage.needed(work))


BY_NAME: Mapping[str, Stage] = {stage.name: stage for stage in STAGES}
