"""The memory of a drawing over time: recorded by stage, written as a table and as a plot."""

from __future__ import annotations

import csv
import io
import threading
import time
from collections.abc import Callable
from pathlib import Path

from sakuga.files.atomic import write_atomically
from sakuga.memory.plot import START, Sample, plot

BEGIN = "begin "  # before the name of a stage, in what observers of drawings are told


class Recorder:
    """Samples memory from now until `close`: at every change of stage, and in between.

    read: gives (allocated, reserved) bytes. interval: seconds between two samples that a thread
    of its own takes; with 0 there is no thread. read_peak: gives the most bytes allocated since
    it was last called, which samples may miss; it is called where stages end.

    `samples` are in the order of time. `peaks` has the most bytes allocated in each stage that
    has ended.
    """

    def __init__(
        self,
        read: Callable[[], tuple[int, int]],
        read_peak: Callable[[], int] | None = None,
        *,
        interval: float = 0.005,
    ) -> None:
        self.samples: list[Sample] = []
        self.peaks: dict[str, int] = {}
        self._read, self._read_peak = read, read_peak
        self._stage = START
        self._began = time.perf_counter()
        self._lock = threading.Lock()
        self._closed = threading.Event()
        self.sample()
        self._thread = threading.Thread(target=self._watch, args=(interval,), daemon=True)
        if interval:
            self._thread.start()

    def enter(self, stage: str) -> None:
        """End the stage before and begin `stage`, which may have been entered before."""
        with self._lock:
            self._end()
            self._stage = stage
            self._take()

    def on(self, place: str, *_: object) -> None:
        """Note a place that a drawing passes; of interest is where stages begin."""
        if place.startswith(BEGIN):
            self.enter(place.removeprefix(BEGIN))

    def sample(self) -> None:
        """Take a sample now, because something has just happened."""
        with self._lock:
            self._take()

    def close(self) -> None:
        """End the last stage; nothing is sampled any more."""
        if self._closed.is_set():
            return
        self._closed.set()
        if self._thread.is_alive():
            self._thread.join()
        with self._lock:
            self._end()

    def write(self, path: Path, limit: int | None = None, *, replace: bool = False) -> None:
        """Write the table and the plot beside each other, as `files` names them.

        limit: the budget in bytes, which the plot shows. Raises OutputExists if one of them
        is there and `replace` is False.
        """
        table, picture = files(path)
        write_atomically(table, self.table().encode(), replace=replace)
        write_atomically(picture, plot(self.samples, self.peaks, limit).encode(), replace=replace)

    def table(self) -> str:
        """The samples as CSV, with bytes and seconds."""
        file = io.StringIO()
        rows = csv.writer(file, lineterminator="\n")
        rows.writerow(("seconds", "stage", "allocated_bytes", "reserved_bytes"))
        for sample in self.samples:
            seconds = f"{sample.seconds:.6f}"
            rows.writerow((seconds, sample.stage, sample.allocated, sample.reserved))
        return file.getvalue()

    def _watch(self, interval: float) -> None:
        while not self._closed.wait(interval):
            self.sample()

    def _end(self) -> None:
        """Note the peak of the stage that ends."""
        last = self._take().allocated
        self._note(last if self._read_peak is None else self._read_peak())

    def _take(self) -> Sample:
        seconds = time.perf_counter() - self._began
        sample = Sample(seconds, self._stage, *self._read())
        self._note(sample.allocated)
        # While nothing changes, the first and the last sample say everything.
        if [_level(past) for past in self.samples[-2:]] == [_level(sample)] * 2:
            self.samples.pop()
        self.samples.append(sample)
        return sample

    def _note(self, allocated: int) -> None:
        self.peaks[self._stage] = max(self.peaks.get(self._stage, 0), allocated)


def files(path: Path) -> tuple[Path, Path]:
    """The table and the plot of a report: `path` with .csv and .svg, whichever it ends with."""
    stem = path.name.removesuffix(".svg").removesuffix(".csv")
    return path.with_name(f"{stem}.csv"), path.with_name(f"{stem}.svg")


def _level(sample: Sample) -> tuple[str, int, int]:
    return sample.stage, sample.allocated, sample.reserved
