"""The plot of memory says in shapes and words what the samples say."""

from __future__ import annotations

from itertools import pairwise
from xml.etree import ElementTree

import pytest

from sakuga.memory.plot import BUDGET, COLOURS, FRAME, RESERVED, SIZE, Sample, plot

MIB = 2**20


def drawn(samples: list[Sample], limit: int | None = None) -> ElementTree.Element:
    peaks: dict[str, int] = {}
    for sample in samples:
        peaks[sample.stage] = max(peaks.get(sample.stage, 0), sample.allocated)
    return ElementTree.fromstring(plot(samples, peaks, limit))


def words(picture: ElementTree.Element) -> list[str]:
    return [text.strip() for text in picture.itertext() if text.strip()]


def line(picture: ElementTree.Element, colour: str) -> list[tuple[float, float]]:
    """The points of the first line of a colour; none where there is no such line."""
    for one in picture.iterfind(f".//{{*}}polyline[@stroke='{colour}']"):
        return [tuple(map(float, point.split(","))) for point in one.attrib["points"].split()]
    return []


def test_the_plot_has_each_stage_in_its_colour_and_the_budget_above_it() -> None:
    samples = [Sample(0, "gemma", 50 * MIB, 0), Sample(1, "gemma", 50 * MIB, 0)]
    samples += [Sample(1, "decode", 80 * MIB, 0), Sample(2, "decode", 80 * MIB, 0)]
    picture = drawn(samples, 100 * MIB)
    budget, decode, gemma = (
        line(picture, colour) for colour in (BUDGET, COLOURS["decode"], COLOURS["gemma"])
    )
    left, _, right, bottom = FRAME
    middle = (left + right) / 2
    assert [x for x, _ in gemma] == [left, middle]
    assert [x for x, _ in decode] == [middle, right]
    assert [x for x, _ in budget] == [left, right]
    height = bottom - budget[0][1]
    assert {round((bottom - y) / height, 2) for _, y in gemma} == {0.5}
    assert {round((bottom - y) / height, 2) for _, y in decode} == {0.8}
    assert {"gemma", "gemma 52 MB", "decode", "decode 84 MB", "budget 105 MB"} <= {*words(picture)}


def test_a_budget_out_of_reach_does_not_flatten_the_plot() -> None:
    samples = [Sample(0, "denoise", MIB, MIB), Sample(1, "denoise", MIB, MIB)]
    picture = drawn(samples, 2**34)
    assert line(picture, BUDGET) == []
    assert "budget 17.18 GB, above this plot" in words(picture)
    assert min(y for _, y in line(picture, COLOURS["denoise"])) < (FRAME[1] + FRAME[3]) / 2


def test_what_is_reserved_is_a_line_of_its_own_where_it_is_more() -> None:
    samples = [Sample(0, "denoise", MIB, 2 * MIB), Sample(1, "denoise", MIB, 2 * MIB)]
    bottom = FRAME[3]
    picture = drawn(samples)
    (_, allocated), (_, reserved) = (
        line(picture, COLOURS["denoise"])[0], line(picture, RESERVED)[0]
    )  # fmt: skip
    assert (bottom - reserved) / (bottom - allocated) == pytest.approx(2, abs=0.01)
    assert "reserved" in words(picture)
    assert line(drawn([Sample(0, "denoise", MIB, MIB)]), RESERVED) == []


def test_the_peak_of_a_stage_has_a_dot_even_where_no_sample_saw_it() -> None:
    picture = ElementTree.fromstring(plot([Sample(0, "decode", 1, 1)], {"decode": MIB}))
    (dot,) = picture.iterfind(".//{*}circle")
    _, top, _, bottom = FRAME
    assert float(dot.attrib["cy"]) == pytest.approx(bottom - (bottom - top) / 1.12, abs=0.1)
    assert words(picture)[-1] == "decode 1 MB"


def test_a_long_drawing_is_a_small_file_in_the_order_of_time() -> None:
    samples = [Sample(i / 200, "denoise", i % 7 * MIB, 0) for i in range(50_000)]
    text = plot(samples, {"denoise": 6 * MIB})
    assert len(text) < 100_000
    points = line(ElementTree.fromstring(text), COLOURS["denoise"])
    assert all(before[0] < after[0] for before, after in pairwise(points))


def test_equal_samples_are_equal_text_and_a_strange_stage_stays_text() -> None:
    samples = [Sample(0, '<b a="1">&', MIB, 0), Sample(1, '<b a="1">&', MIB, 0)]
    peaks = {samples[0].stage: MIB}
    assert plot(samples, peaks) == plot(samples, peaks)
    assert '<b a="1">&' in words(drawn(samples))


@pytest.mark.parametrize("seconds", [0.0, 0.1, 1e5])
@pytest.mark.parametrize("size", [0, 1, 10**6, 10**13])
def test_one_sample_of_any_size_is_a_plot(size, seconds) -> None:
    picture = drawn([Sample(seconds, "elsewhere", size, 0)])
    assert (int(picture.attrib["width"]), int(picture.attrib["height"])) == SIZE
    width, height = SIZE
    for points in (one.attrib["points"] for one in picture.iterfind(".//{*}polyline")):
        for x, y in (map(float, point.split(",")) for point in points.split()):
            assert 0 <= x <= width
            assert 0 <= y <= height
