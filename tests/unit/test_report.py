from __future__ import annotations

import csv
import io
import time
from xml.etree import ElementTree

import pytest

from sakuga.errors import OutputExists
from sakuga.memory.report import Recorder, files

MIB = 2**20


class Gauge:
    """Memory that a test sets."""

    def __init__(self) -> None:
        self.now, self.peak = 0, 0

    def set(self, size: int) -> None:
        self.now, self.peak = size, max(self.peak, size)

    def read(self) -> tuple[int, int]:
        return self.now, 2 * self.now

    def read_peak(self) -> int:
        peak, self.peak = self.peak, self.now
        return peak


def test_samples_are_taken_where_stages_change() -> None:
    gauge = Gauge()
    recorder = Recorder(gauge.read, interval=0)
    recorder.enter("gemma")
    gauge.set(3)
    recorder.enter("denoise")
    gauge.set(7)
    recorder.sample()
    gauge.set(5)
    recorder.close()
    seen = [(sample.stage, sample.allocated, sample.reserved) for sample in recorder.samples]
    assert seen == [
        ("start", 0, 0), ("start", 0, 0), ("gemma", 0, 0), ("gemma", 3, 6),
        ("denoise", 3, 6), ("denoise", 7, 14), ("denoise", 5, 10),
    ]  # fmt: skip
    assert recorder.peaks == {"start": 0, "gemma": 3, "denoise": 7}
    times = [sample.seconds for sample in recorder.samples]
    assert times == sorted(times)


def test_what_no_sample_saw_is_in_the_peak_of_its_stage_only() -> None:
    gauge = Gauge()
    recorder = Recorder(gauge.read, gauge.read_peak, interval=0)
    recorder.enter("gemma")
    gauge.set(9)
    gauge.set(1)
    recorder.enter("decode")
    gauge.set(2)
    recorder.close()
    assert recorder.peaks == {"start": 0, "gemma": 9, "decode": 2}


def test_a_stage_that_comes_again_keeps_its_highest_peak() -> None:
    gauge = Gauge()
    recorder = Recorder(gauge.read, gauge.read_peak, interval=0)
    for size in (4, 9, 2):
        recorder.enter("denoise")
        gauge.set(size)
        gauge.set(0)
    recorder.close()
    assert recorder.peaks["denoise"] == 9


def test_a_thread_samples_between_events_until_close() -> None:
    gauge = Gauge()
    recorder = Recorder(gauge.read, interval=0.001)
    deadline = time.monotonic() + 5
    while recorder.peaks["start"] < 3 and time.monotonic() < deadline:
        gauge.set(gauge.now + 1)
        time.sleep(0.002)
    recorder.close()
    recorder.close()
    count = len(recorder.samples)
    time.sleep(0.01)
    assert recorder.peaks["start"] >= 3
    assert len(recorder.samples) == count


def test_memory_that_does_not_change_costs_two_samples() -> None:
    recorder = Recorder(lambda: (5, 5), interval=0)
    for _ in range(1000):
        recorder.sample()
    assert len(recorder.samples) == 2
    assert recorder.samples[0].seconds < recorder.samples[1].seconds


def test_a_report_is_a_table_and_a_plot(tmp_path) -> None:
    gauge = Gauge()
    recorder = Recorder(gauge.read, interval=0)
    recorder.enter("denoise")
    gauge.set(3 * MIB)
    recorder.close()
    recorder.write(tmp_path / "run.v2.svg", limit=4 * MIB)
    table, picture = tmp_path / "run.v2.csv", tmp_path / "run.v2.svg"
    assert sorted(tmp_path.iterdir()) == [table, picture]
    rows = list(csv.DictReader(io.StringIO(table.read_text(encoding="utf-8"))))
    assert list(rows[0]) == ["seconds", "stage", "allocated_bytes", "reserved_bytes"]
    assert rows[-1]["stage"] == "denoise"
    assert int(rows[-1]["allocated_bytes"]) == 3 * MIB
    texts = [text.strip() for text in ElementTree.parse(picture).getroot().itertext()]
    assert "Peak 3 MB, in denoise" in texts
    with pytest.raises(OutputExists):
        recorder.write(tmp_path / "run.v2.csv")
    recorder.write(tmp_path / "run.v2", replace=True)
    assert sorted(tmp_path.iterdir()) == [table, picture]  # ".v2" is the name's own


def test_both_endings_name_the_same_files(tmp_path) -> None:
    assert files(tmp_path / "a.svg") == files(tmp_path / "a.csv") == files(tmp_path / "a")
