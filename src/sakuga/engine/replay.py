"""Evaluations of small pictures as CUDA graphs: captured once, then replayed by one launch.

A card is done with a small evaluation before the host has asked for all of its kernels. A graph
asks for all at once. What it computes with stays where it was while it was captured, so it serves
only where every weight stays on the card.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

Evaluate = Callable[[Tensor, Tensor], Tensor]  # of latents, and a row of the table of times

SMALL = 1500  # tokens; with more, a card takes longer than the host does


class Replay:
    """An evaluation that is captured when it is asked for a second time.

    evaluate: gives velocities (B, C, h, w); the first call makes all that is made only once. One
    that cannot be captured is computed as ever.
    """

    def __init__(self, evaluate: Evaluate) -> None:
        self.evaluate = evaluate
        self._calls = 0
        self._graph: torch.cuda.CUDAGraph | None = None
        self._x, self._row, self._made = (torch.empty(0),) * 3

    def __call__(self, x: Tensor, row: int) -> Tensor:
        """The velocities of latents at the time of a row."""
        self._calls += 1
        if self._calls == 2:
            self._capture(x, row)
        if self._graph is None:
            return self.evaluate(x, torch.tensor(row, device=x.device))
        self._x.copy_(x)
        self._row.fill_(row)
        self._graph.replay()
        return self._made.clone()

    def _capture(self, x: Tensor, row: int) -> None:
        self._x, self._row = x.clone(), torch.tensor(row, device=x.device)
        graph = torch.cuda.CUDAGraph()
        try:
            with torch.cuda.graph(graph):
                self._made = self.evaluate(self._x, self._row)
        except torch.OutOfMemoryError:
            raise
        except RuntimeError:
            return
        self._graph = graph
