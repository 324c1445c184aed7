"""Muon: directions are orthogonal, steps are those of torch's own."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from sakuga.chibi.muon import Muon, orthogonalise

RATE, DECAY = 0.02, 0.01


def test_orthogonalise_pushes_all_singular_values_near_one() -> None:
    torch.manual_seed(0)
    for shape in ((3, 8, 20), (2, 20, 8), (1, 12, 12)):
        values = torch.linalg.svdvals(orthogonalise(torch.randn(shape)).float())
        assert values.min() > 0.3
        assert values.max() < 1.3


def parameters(*shapes: tuple[int, ...]) -> list[nn.Parameter]:
    return [nn.Parameter(torch.randn(shape)) for shape in shapes]


def follow(
    ours: torch.optim.Optimizer, matrices: list[nn.Parameter], params: list[nn.Parameter]
) -> None:
    """Give both optimisers the same gradients and ask after every step for the same values."""
    theirs = torch.optim.Muon(matrices, lr=RATE, weight_decay=DECAY, adjust_lr_fn="match_rms_adamw")
    usual = 0.2 * RATE  # root mean square of a step
    for _ in range(5):
        for p, matrix in zip(params, matrices, strict=True):
            matrix.grad = torch.randn_like(matrix)
            p.grad = matrix.grad.view_as(p).clone()
        ours.step()
        theirs.step()
        for p, matrix in zip(params, matrices, strict=True):
            torch.testing.assert_close(p.detach().view_as(matrix), matrix, rtol=0, atol=usual / 20)


@pytest.mark.parametrize(
    "shapes", [((12, 8), (8, 12), (12, 8), (8, 8)), ((6, 4, 3, 3), (4, 6, 1, 1), (6, 4, 3, 3))]
)
def test_each_step_is_that_of_torch_for_kernels_as_for_their_matrices(
    shapes: tuple[tuple[int, ...], ...],
) -> None:
    torch.manual_seed(0)
    params = parameters(*shapes)
    matrices = [nn.Parameter(p.detach().flatten(1).clone()) for p in params]
    follow(Muon(params, lr=RATE, weight_decay=DECAY), matrices, params)


@pytest.mark.parametrize("other", [torch.optim.AdamW, torch.optim.SGD])
def test_another_optimiser_would_be_told_apart(other) -> None:
    torch.manual_seed(0)
    params = parameters((12, 8))
    matrices = [nn.Parameter(p.detach().clone()) for p in params]
    with pytest.raises(AssertionError, match="not close"):
        follow(other(params, lr=RATE, weight_decay=DECAY), matrices, params)


def test_a_parameter_without_a_gradient_stays() -> None:
    torch.manual_seed(0)
    moved, still = parameters((4, 4), (4, 4))
    before: Tensor = still.detach().clone()
    moved.grad = torch.randn(4, 4)
    Muon([moved, still], lr=RATE, weight_decay=DECAY).step()
    assert torch.equal(still, before)
