import pytest
import torch

from sakuga.sample.guidance import cap_norm, guide, guided, match_rows

COND, UNCOND = torch.randn(3, 2, 4, 4), torch.randn(3, 2, 4, 4)


def norms(v):
    return v.flatten(1).norm(dim=1)


@pytest.mark.parametrize("scale", [0.0, 0.3, 1.0, 4.5])
def test_guidance_moves_along_the_line_from_unconditional_to_conditional(scale):
    torch.testing.assert_close(guide(COND, UNCOND, scale), UNCOND + scale * (COND - UNCOND))


def test_at_scale_one_only_the_prompt_speaks():
    assert torch.equal(guide(COND, UNCOND, 1.0), COND)


def test_renorm_caps_each_sample_by_itself():
    strong = torch.tensor([10.0, 0.1, 1.0]).view(3, 1, 1, 1) * COND
    capped = cap_norm(strong, COND, 0.5)
    expected = norms(COND) * torch.tensor([0.5, 0.1, 0.5])
    torch.testing.assert_close(norms(capped), expected)
    torch.testing.assert_close(capped[1], strong[1])  # never raised


def test_renorm_is_part_of_guidance_and_zero_turns_it_off():
    plain = guide(COND, UNCOND, 4.5)
    assert torch.equal(guide(COND, UNCOND, 4.5, 0.0), plain)
    torch.testing.assert_close(guide(COND, UNCOND, 4.5, 1.0), cap_norm(plain, COND, 1.0))
    assert (norms(plain) > norms(COND)).all()


def test_a_velocity_of_zero_stays_finite():
    zero = torch.zeros(2, 1, 2, 2)
    assert torch.equal(cap_norm(zero, zero, 1.0), zero)


@pytest.mark.parametrize(
    ("t", "asked"), [(0.0, "both"), (0.249, "both"), (0.25, "one"), (0.9, "one")]
)
def test_truncation_is_strict_and_saves_the_unconditional_branch(t, asked):
    calls = []

    def both(x, t):
        calls.append("both")
        return COND, UNCOND

    def one(x, t):
        calls.append("one")
        return COND

    v = guided(both, 4.5, truncation=0.25, conditional=one)(COND, t)
    assert calls == [asked]
    assert torch.equal(v, guide(COND, UNCOND, 4.5) if asked == "both" else COND)


@pytest.mark.parametrize("limit", [0.1, 0.2, 0.3, 0.7, 0.9])
def test_a_time_that_is_the_limit_in_float32_is_not_below_it(limit):
    asked = []
    near = torch.tensor(limit).item()
    for t in (limit, near):
        guided(lambda x, t: (asked.append("both"),) * 2, 4.5, truncation=limit,
               conditional=lambda x, t: asked.append(t))(COND, t)  # fmt: skip
    assert asked == [limit, near]


def test_without_truncation_guidance_never_ends():
    v = guided(lambda x, t: (COND, UNCOND), 4.5)(COND, 1.0)
    assert torch.equal(v, guide(COND, UNCOND, 4.5))


def test_past_truncation_the_pair_serves_where_nothing_else_was_given():
    v = guided(lambda x, t: (COND, UNCOND), 4.5, truncation=0.5)(COND, 0.5)
    assert torch.equal(v, COND)


def test_rows_have_the_norms_that_they_have_in_the_conditional_velocity():
    draw = torch.Generator().manual_seed(0)
    conditional, unconditional = torch.randn(2, 3, 4, 5, 6, generator=draw)
    plain = guide(conditional, unconditional, 4.0)
    rows = guide(conditional, unconditional, 4.0, rows=True)
    torch.testing.assert_close(rows.norm(dim=-1), conditional.norm(dim=-1))
    torch.testing.assert_close(rows / rows.norm(dim=-1, keepdim=True),
                               plain / plain.norm(dim=-1, keepdim=True))  # fmt: skip
    velocity = guided(lambda x, t: (conditional, unconditional), 4.0, rows=True)
    assert torch.equal(velocity(torch.zeros(3, 4, 5, 6), 0.5), rows)


def test_a_row_of_zeros_stays_one():
    v = torch.tensor([[[[0.0, 0.0], [3.0, 4.0]]]])
    reference = torch.tensor([[[[1.0, 0.0], [0.0, 10.0]]]])
    assert match_rows(v, reference).tolist() == [[[[0.0, 0.0], [6.0, 8.0]]]]
