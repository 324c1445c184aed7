"""Renders of the very scenes that are asked for, so that the scorer's own error stands beside."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from multiprocessing import get_context
from types import TracebackType

import numpy as np
from numpy.typing import NDArray

from sakuga.chibi.binding.asks import SEED
from sakuga.chibi.regime import Size
from sakuga.chibi.renderer import render
from sakuga.chibi.scene import Scene

Pixels = NDArray[np.uint8]
_CHUNK = 16  # scenes that a process renders at once
_MOST = 16  # processes


class Truth:
    """Renders scenes in processes of their own; the same scene at one size only once."""

    def __init__(self, workers: int | None = None) -> None:
        count = min(_MOST, os.cpu_count() or 1) if workers is None else workers
        # Fresh processes: one that has opened a card cannot be forked.
        self._pool = ProcessPoolExecutor(count, get_context("spawn")) if count else None
        self._made: dict[tuple[Size, tuple[Scene, ...]], list[Future[Pixels] | Pixels]] = {}

    def __enter__(self) -> Truth:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:  # fmt: skip
        if self._pool:
            self._pool.shutdown(cancel_futures=True)

    def start(self, scenes: Sequence[Scene], size: Size) -> None:
        """Begin to render scenes, unless they are rendered already."""
        if (size, tuple(scenes)) in self._made:
            return
        parts = [scenes[start : start + _CHUNK] for start in range(0, len(scenes), _CHUNK)]
        self._made[size, tuple(scenes)] = [
            self._pool.submit(rendered, part, size) if self._pool else rendered(part, size)
            for part in parts
        ]

    def of(self, scenes: Sequence[Scene], size: Size) -> Pixels:
        """The renders (B, H, W, 3) of scenes."""
        self.start(scenes, size)
        found = self._made[size, tuple(scenes)]
        return np.concatenate([one.result() if isinstance(one, Future) else one for one in found])


def rendered(scenes: Iterable[Scene], size: Size) -> Pixels:
    """Render scenes, each with a seed of its own."""
    drawn = [render(scene, size=size, seed=SEED + index) for index, scene in enumerate(scenes)]
    return np.stack(drawn)
