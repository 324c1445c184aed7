"""A preview is a linear look at latents, and a glance at them never lies."""

from __future__ import annotations

import pytest
import torch

from sakuga.engine.decode import (
    FLUX,
    Preview,
    PreviewMap,
    delayed,
    fit_preview,
    picture_of,
    preview_map,
)
from sakuga.errors import SpecMismatch
from sakuga.sample.solvers import Step

CPU = torch.device("cpu")
PLAIN = PreviewMap(((1.0, 0.0, 0.0), (0.0, 1.0, 0.0)), (0.0, 0.0, -1.0))


def step(x: torch.Tensor) -> Step:
    return Step(1, 2, 0.5, x, x)


def test_a_map_sends_latents_to_colours() -> None:
    latents = torch.tensor([[-1.0, 1.0, 9.0], [0.0, 0.0, -9.0]]).reshape(1, 2, 1, 3)
    (picture,) = map(picture_of, PLAIN.on(CPU)(latents))
    assert (picture.width, picture.height) == (3, 1)
    assert picture.rgb == bytes([0, 128, 0, 255, 128, 0, 255, 0, 0])


def test_fitting_finds_the_map_that_made_the_pictures() -> None:
    torch.manual_seed(0)
    latents = torch.randn(2, 4, 6, 5)
    factors, bias = torch.randn(4, 3), torch.randn(3)
    small = (latents.movedim(1, -1) @ factors + bias).movedim(-1, 1)
    images = small.repeat_interleave(8, 2).repeat_interleave(8, 3)
    found = fit_preview(latents, images)
    torch.testing.assert_close(torch.tensor(found.factors), factors, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(torch.tensor(found.bias), bias, atol=1e-5, rtol=1e-5)


def test_a_checkpoint_may_bring_its_map() -> None:
    stored = {"factors": [[1, 0, 0], [0, 1, 0]], "bias": [0, 0, -1]}
    latents = torch.randn(1, 2, 4, 4)
    assert torch.equal(preview_map(stored, 2).on(CPU)(latents), PLAIN.on(CPU)(latents))
    assert preview_map(None, 16) is FLUX
    assert preview_map(None, 4) is None


@pytest.mark.parametrize(
    "stored", [{}, {"factors": [[1, 2, 3]], "bias": [0, 0, 0]}, {"factors": "x", "bias": 1}, [1]]
)
def test_a_map_that_does_not_fit_is_refused(stored) -> None:
    with pytest.raises(SpecMismatch):
        preview_map(stored, 4)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_a_glance_sees_one_bad_value(value) -> None:
    x = torch.zeros(2, 2, 4, 4)
    assert Preview(step(x), PLAIN.on(CPU)).finite
    x[1, 1, 3, 3] = value
    assert not Preview(step(x), PLAIN.on(CPU)).finite


def test_without_a_map_there_are_no_previews() -> None:
    assert Preview(step(torch.zeros(1, 4, 2, 2)), None).pictures == ()


def test_delayed_items_come_in_order_and_late() -> None:
    made = []

    def source():
        for i in range(4):
            made.append(i)
            yield i

    late = delayed(source(), by=1)
    assert (next(late), made) == (0, [0, 1])
    assert list(late) == [1, 2, 3]
    assert list(delayed(range(3), by=0)) == [0, 1, 2]
    assert list(delayed([], by=2)) == []
