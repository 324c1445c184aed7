"""Masks grow and are feathered by the pixels they were told, and canvases keep all else."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from effort import examples
from pictures import noise, window
from sakuga.errors import RequestError
from sakuga.files.canvas import Canvas, covering, cropped
from sakuga.files.masks import box_of, feathered, grown, read_mask
from sakuga.files.pictures import as_source


@settings(deadline=None, max_examples=examples(60))
@given(st.integers(0, 2**32 - 1), st.integers(0, 9), st.integers(0, 9))
def test_a_mask_grows_and_fades_as_far_as_it_was_told(seed, grow, feather) -> None:
    random = np.random.default_rng(seed)
    mask = random.random((17, 23)) > 0.97
    rows, columns = np.nonzero(mask)
    far = np.full(mask.shape, 99)
    for row, column in zip(rows, columns, strict=True):
        away = np.maximum(
            np.abs(np.arange(17) - row)[:, None], np.abs(np.arange(23) - column)[None]
        )
        far = np.minimum(far, away)
    assert (grown(mask, grow) == (far <= grow)).all()
    alpha = feathered(grown(mask, grow), feather)
    assert (alpha[far <= grow] == 255).all()
    assert not alpha[far > grow + feather].any()
    if feather > 3:
        assert (alpha[far == grow + 1] > 0).all()


def test_a_box_is_the_smallest_around_a_mask() -> None:
    mask, _ = read_mask(as_source(window(20, 10, (3, 2, 8, 9))), (20, 10), invert=False)
    assert box_of(mask) == (3, 2, 8, 9)
    inverse, _ = read_mask(as_source(window(20, 10, (3, 2, 8, 9))), (20, 10), invert=True)
    assert (inverse == ~mask).all()


@pytest.mark.parametrize(
    ("mask", "invert", "said"),
    [
        (window(20, 11, (3, 2, 8, 9)), False, "a mask has the size of its picture; got .*20x11"),
        (window(20, 10, (0, 0, 0, 0)), False, "all black.*--mask-invert"),
        (window(20, 10, (0, 0, 20, 10)), True, "all white.*Leave out --mask-invert"),
    ],
)
def test_a_mask_of_another_size_or_of_nothing_is_refused(mask, invert, said) -> None:
    with pytest.raises(RequestError, match=said):
        read_mask(as_source(mask), (20, 10), invert=invert)


@settings(deadline=None, max_examples=examples(40))
@given(
    st.integers(-9, 20), st.integers(-9, 15), st.integers(10, 40), st.integers(10, 40),
    st.booleans(), st.integers(0, 99),
)  # fmt: skip
def test_what_is_not_drawn_keeps_every_bit(left, top, wide, high, larger, seed) -> None:
    pixels = noise(24, 16, seed)
    alpha = np.random.default_rng(seed).integers(0, 3, (16, 24)).astype(np.uint8) * 127
    alpha[alpha == 254] = 255
    frame = (left, top, left + wide, top + high)
    size = (2 * wide, 3 * high) if larger else (wide, high)
    canvas = Canvas(pixels, alpha, frame, size)
    assert canvas.framed().shape[1::-1] == size
    drawn = noise(*size, seed + 1)
    made = canvas.with_drawn(drawn)
    inside = np.zeros((16, 24), bool)
    inside[max(top, 0) : max(top + high, 0), max(left, 0) : max(left + wide, 0)] = True
    kept = ~inside | (alpha == 0)
    assert (made[kept] == pixels[kept]).all()
    if not larger:
        whole = inside & (alpha == 255)
        rows, columns = np.nonzero(whole)
        assert (made[whole] == drawn[rows - top, columns - left]).all()


def test_beyond_its_edge_a_picture_repeats_its_last_pixels() -> None:
    pixels = noise(5, 4)
    wide = cropped(pixels, (-2, -1, 6, 6))
    assert wide.shape == (7, 8, 3)
    assert (wide[1:5, 2:7] == pixels).all()
    assert (wide[0, 2:7] == pixels[0]).all()
    assert (wide[6, :3] == pixels[3, 0]).all()


def test_a_picture_of_another_shape_is_cut_to_its_centre() -> None:
    pixels = np.zeros((20, 40, 3), np.uint8)
    pixels[:, 10:30] = 255
    assert covering(pixels, (10, 10)).min() > 240
    assert (covering(pixels, (40, 20)) == pixels).all()


def test_a_cell_is_drawn_if_any_pixel_of_it_is() -> None:
    alpha = np.zeros((16, 24), np.uint8)
    alpha[7, 8] = 1
    free = Canvas(noise(24, 16), alpha, (0, 0, 24, 16), (24, 16)).free(8)
    assert free is not None
    assert free.tolist() == [[False, True, False], [False, False, False]]
