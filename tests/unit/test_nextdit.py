from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from sakuga.model.layers import Segments
from sakuga.model.nextdit import Group, NextDiT
from sakuga.model.packing import image_ids, make_packing, packing_of, patchify, text_ids, unpatchify
from sakuga.model.spec import NextDiTSpec

SPEC = NextDiTSpec(
    dim=24,
    n_layers=2,
    n_refiner_layers=1,
    n_heads=3,
    n_kv_heads=1,
    axes_dims=(4, 2, 2),
    cap_feat_dim=10,
    clip_text_dim=6,
    multiple_of=16,
    in_channels=4,
)


@pytest.fixture(scope="module")
def model() -> NextDiT:
    torch.manual_seed(0)
    model = NextDiT(SPEC)
    for parameter in model.parameters():  # gates and the last layer start at zero
        nn.init.normal_(parameter, std=0.3)
    return model


def draw(model: NextDiT, lengths, sizes, seed=1):
    """Random prompts and latents, one segment per length and (h, w)."""
    generator = torch.Generator().manual_seed(seed)
    features = [torch.randn(n, SPEC.cap_feat_dim, generator=generator) for n in lengths]
    latents = [torch.randn(4, *size, generator=generator) for size in sizes]
    t = torch.rand(len(lengths), generator=generator)
    pooled = torch.randn(len(lengths), SPEC.clip_text_dim, generator=generator)
    return features, latents, t, pooled


def run(model: NextDiT, features, latents, t, pooled) -> Tensor | list[Tensor]:
    segments = Segments(tuple(len(one) for one in features))
    caption = model.caption(torch.cat(features), segments)
    return model(latents, t, caption, segments, pooled)


@pytest.mark.parametrize(
    ("lengths", "sizes"),
    [
        ((5, 3, 9), ((4, 4), (4, 4), (4, 4))),  # text ragged, images alike
        ((5, 5), ((4, 8), (6, 4))),  # images ragged, text alike
        ((5, 5), ((4, 8), (8, 4))),  # as many tokens, standing elsewhere
        ((6, 4), ((4, 4), (4, 6))),  # joint lengths agree by chance
        ((7, 2, 3), ((8, 4), (4, 6), (2, 2))),
    ],
)
def test_a_picture_does_not_depend_on_its_neighbours(model, lengths, sizes):
    features, latents, t, pooled = draw(model, lengths, sizes)
    together = run(model, features, latents, t, pooled)
    for i, velocity in enumerate(together):
        [alone] = run(model, features[i : i + 1], [latents[i]], t[i : i + 1], pooled[i : i + 1])
        # As a whole: a value near zero is the difference of large ones, rounded as those are.
        assert (velocity - alone).norm() <= 1e-6 * alone.norm()


@pytest.mark.parametrize("lengths", [(5, 5), (5, 3)])
def test_a_batch_and_a_list_of_latents_give_the_same(model, lengths):
    features, latents, t, pooled = draw(model, lengths, ((4, 6), (4, 6)))
    batch = run(model, features, torch.stack(latents), t, pooled)
    assert isinstance(batch, Tensor)
    assert batch.shape == (2, 4, 4, 6)
    torch.testing.assert_close(batch, torch.stack(run(model, features, latents, t, pooled)))


def test_every_input_counts(model):
    features, latents, t, pooled = draw(model, (5, 5), ((4, 4), (4, 4)))
    before = torch.stack(run(model, features, latents, t, pooled))
    moved = [
        run(model, [features[0] + 0.1, features[1]], latents, t, pooled),
        run(model, features, [latents[0] + 0.1, latents[1]], t, pooled),
        run(model, features, latents, t + torch.tensor([0.1, 0.0]), pooled),
        run(model, features, latents, t, pooled + torch.tensor([[0.1], [0.0]])),
        run(model, [features[0][:4], features[1]], latents, t, pooled),
    ]
    for after in moved:
        assert (after[0] - before[0]).abs().max() > 1e-4
        torch.testing.assert_close(after[1], before[1])


def test_without_a_pooled_vector_time_alone_conditions(model):
    t = torch.rand(2)
    assert torch.equal(model.condition(t, None), model.t_embedder(t))
    assert not torch.equal(model.condition(t, torch.zeros(2, 6)), model.t_embedder(t))


def test_a_fresh_model_predicts_nothing_and_learns_everything():
    torch.manual_seed(0)
    fresh = NextDiT(SPEC)
    features, latents, t, pooled = draw(fresh, (5, 5), ((4, 4), (4, 4)))
    out = run(fresh, features, torch.stack(latents), t, pooled)
    assert torch.equal(out, torch.zeros_like(out))
    for parameter in fresh.parameters():
        nn.init.normal_(parameter, std=0.3)
    run(fresh, features, torch.stack(latents), t, pooled).square().mean().backward()
    still = [n for n, p in fresh.named_parameters() if p.grad is None or not p.grad.any()]
    assert still == []


def test_it_is_built_on_the_meta_device_without_buffers():
    with torch.device("meta"):
        empty = NextDiT(SPEC)
    assert all(parameter.is_meta for parameter in empty.parameters())
    assert list(empty.buffers()) == []
    assert "norm_final.weight" not in empty.state_dict()


def test_positions_reach_past_the_tables_of_the_original(model):
    features, latents, t, pooled = draw(model, (1030,), ((4, 4),))
    [far] = run(model, features, latents, t, pooled)
    [near] = run(model, [features[0][:1029]], latents, t, pooled)
    assert far.isfinite().all()
    assert (far - near).abs().max() > 0


def test_patches_hold_row_column_channel_with_the_channel_fastest():
    latents = torch.arange(4 * 4 * 6).reshape(1, 4, 4, 6)
    packing = make_packing((1,), ((2, 3),), (SPEC.axes_dims, 1e4))
    patches = patchify(latents, 2, packing)
    assert patches.shape == (1, 6, 16)
    expected = latents[0, :, 2:4, 2:4].permute(1, 2, 0).flatten()
    assert torch.equal(patches[0, 4], expected)  # second row of patches, second column
    assert torch.equal(unpatchify(patches, latents, 2, packing), latents)


def test_tokens_stand_where_the_original_puts_them():
    assert text_ids(3).tolist() == [[0, 0, 0], [1, 0, 0], [2, 0, 0]]
    assert image_ids(3, 2, 2).tolist() == [[3, 0, 0], [3, 0, 1], [3, 1, 0], [3, 1, 1]]


def test_a_layout_is_made_once_and_serves_training_after_drawing(model):
    with torch.inference_mode():
        drawn = packing_of(model.spec, [11], [(4, 4)], "cpu")
    assert packing_of(model.spec, [11], [(4, 4)], "cpu") is drawn
    features, latents, t, pooled = draw(model, (11,), ((4, 4),))
    [velocity] = run(model, features, latents, t, pooled)
    velocity.sum().backward()
    model.zero_grad()


def test_the_layout_of_one_segment_serves_a_batch_of_such(model):
    features, latents, t, pooled = draw(model, (5, 5), ((4, 4), (4, 4)))
    packing = packing_of(model.spec, [5], [(4, 4)], "cpu")
    caption = model.refine(torch.cat(features), packing.text)
    batch = model.velocity(torch.stack(latents), t, caption, packing, pooled)
    torch.testing.assert_close(batch, torch.stack(run(model, features, latents, t, pooled)))


def test_modulations_can_be_made_beforehand(model):
    features, latents, t, pooled = draw(model, (5,), ((4, 4),))
    packing = packing_of(model.spec, [5], [(4, 4)], "cpu")
    caption = model.refine(features[0], packing.text)
    modulations = model.modulations(t, pooled)
    [[ready]] = model.denoise([Group(latents, caption, packing, modulations)])
    [whole] = run(model, features, latents, t, pooled)
    assert torch.equal(ready, whole)


def test_groups_that_take_each_block_in_turn_are_those_run_alone(model):
    features, latents, t, pooled = draw(model, (5, 3), ((4, 4), (6, 4)))
    groups = []
    for i, (text, latent) in enumerate(zip(features, latents, strict=True)):
        packing = packing_of(model.spec, [len(text)], [latent.shape[-2:]], "cpu")
        caption = model.refine(text, packing.text)
        rows = model.modulations(t, pooled).rows(torch.tensor([i]))
        groups.append(Group([latent], caption, packing, rows))
    together = [latent for [latent] in model.denoise(groups, iter(model.blocks))]
    for got, want in zip(together, run(model, features, latents, t, pooled), strict=True):
        torch.testing.assert_close(got, want)


def test_bfloat16_stays_near_float32(model):
    features, latents, t, pooled = draw(model, (5, 3), ((4, 4), (6, 4)))
    whole = run(model, features, latents, t, pooled)
    half = NextDiT(SPEC)
    half.load_state_dict(model.state_dict())
    half.bfloat16()
    low = run(
        half, [f.bfloat16() for f in features], [x.bfloat16() for x in latents], t,
        pooled.bfloat16(),
    )  # fmt: skip
    for a, b in zip(low, whole, strict=True):
        assert a.dtype == torch.bfloat16
        assert (a.float() - b).abs().max() < 0.1 * b.abs().max()  # 8 bits through 4 blocks


@pytest.mark.long
def test_the_pass_compiles_whole_and_once_for_all_lengths():
    torch.manual_seed(0)
    model = NextDiT(replace(SPEC, n_layers=1, n_refiner_layers=0))
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.3)
    traced = 0

    def count(graph, _inputs):
        nonlocal traced
        traced += 1
        return graph.forward

    compiled = torch.compile(model.velocity, fullgraph=True, dynamic=True, backend=count)
    for length, batch, size in ((5, 2, (14, 18)), (7, 3, (14, 18)), (9, 3, (6, 22))):
        features, latents, t, pooled = draw(model, (length,) * batch, (size,) * batch)
        packing = packing_of(model.spec, [length], [size], "cpu")
        with torch.no_grad():
            caption = model.refine(torch.cat(features), packing.text)
            args = (torch.stack(latents), t, caption, packing, pooled)
            torch.testing.assert_close(compiled(*args), model.velocity(*args))
    assert traced == 1
