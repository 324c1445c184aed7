"""What it takes to denoise: every way to run the transformer on a card, priced.

The bytes follow `model.nextdit` line by line; a test holds them to the real module, counted by
`memory.ledger` at the real size.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from sakuga.api.receipt import StagePlan
from sakuga.memory.activations import Denoising, Segment, table
from sakuga.memory.costs import LAUNCHES, Costs, with_holes

TRAFFIC = 60  # times that elementwise kernels move the hidden states of a block, in and out


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
    total, passing = sum(weights.blocks), sum(weights.passing)
    runs = [(_evaluation(costs, form, group, parts), batches - 1)]
    runs += [(_evaluation(costs, form, last, parts), 1)]
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
            reserved_bytes=level.held + with_holes(beside),
            seconds=costs.copying(passing)
            + sum(
                times * costs.passes(work.evaluations, compute, total, level.streamed)
                for compute, times in runs
            ),
        )
        for level in costs.levels(form)
    )


def _segments(costs: Costs, pictures: int) -> tuple[Segment, ...]:
    """The segments of a group of pictures, branch by branch."""
    side = costs.spec.vae.downscale * costs.spec.transformer.patch_size
    image = (costs.work.width // side) * (costs.work.height // side)  # tokens of a picture
    texts = costs.work.gemma_tokens[: costs.work.branches]
    return tuple(Segment(image, text) for text in texts for _ in range(pictures))


def _activations(costs: Costs, form: str, pictures: int, parts: int) -> int:
    """Bytes beside the weights while a group of pictures is denoised."""
    spec, work = costs.spec.transformer, costs.work
    segments, unfolded = _segments(costs, pictures), costs.unfolded(form)
    run = Denoising(spec, pictures, segments, parts, work.held, costs.size, unfolded)
    rows = table(spec, work.times or work.evaluations, work.branches, costs.size)
    return run.kept + run.latents + run.working + rows


def _evaluation(costs: Costs, form: str, pictures: int, parts: int) -> float:
    """Seconds that one evaluation of `pictures` computes."""
    spec, blocks, card = costs.spec.transformer, costs.network.blocks, costs.card
    segments = _segments(costs, pictures)
    tokens = sum(segment.tokens for segment in segments)
    linear = 2.0 * tokens * costs.values
    squares = sum(segment.tokens**2 for segment in segments)
    attention = 4.0 * squares * spec.dim * len(blocks)
    moved = TRAFFIC * tokens * spec.dim * costs.size * len(blocks)
    moved += parts * costs.unfolding(form)
    return (
        linear / card.peak(costs.compute)
        + attention / card.attention_peak(costs.compute)
        + moved / (card.memory_gbs * 1e9)
        + parts * len(blocks) * LAUNCHES
    )
