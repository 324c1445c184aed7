"""A kernel that Triton compiles when a card first needs it, and what is said where it cannot.

Nothing of Triton is imported before: a computer without a card, or without Triton, computes the
reference beside each kernel, and never waits for a compiler.
"""

from __future__ import annotations

import importlib
import importlib.util
import warnings
from collections.abc import Callable
from functools import cache
from typing import Any

import torch
from torch import Tensor

OLDEST = (8, 0)  # the compute capability from which cards compute in bfloat16


@cache
def refusal(index: int) -> str:
    """Why a card cannot run these kernels; nothing where it can."""
    if torch.version.hip:
        return "Triton kernels are for cards of NVIDIA; this one is of AMD"
    if torch.cuda.get_device_capability(index) < OLDEST:
        return "the card is older than compute capability 8.0"
    if importlib.util.find_spec("triton") is None:
        return "Triton is not installed"
    return ""


class Kernel:
    """One kernel: a function in Triton's language, compiled by its first launch.

    varies: its arguments that change with sizes, for which it is not compiled anew. broken: what
    the compiler said where it could not; the reference computes from then on.
    """

    def __init__(self, function: Callable[..., None], varies: tuple[str, ...] = ()) -> None:
        self.function, self.varies = function, varies
        self.broken = ""
        self._compiled: Any = None

    def takes(self, x: Tensor) -> bool:
        """Whether it computes `x`: on a card that can, and where no gradient is asked for."""
        if not x.is_cuda or self.broken or torch.is_grad_enabled():
            return False
        return x.is_contiguous() and not refusal(x.device.index)

    def launch(self, grid: tuple[int, ...], *args: object, **options: object) -> bool:
        """Run it on the current stream; False, with nothing written, where it cannot be compiled."""
        try:
            self.compiled[grid](*args, **options)
        except torch.OutOfMemoryError:
            raise
        except Exception as error:  # noqa: BLE001  # a compiler may fail in any way
            self.broken = f"{type(error).__name__}: {error}"
            warnings.warn(
                f"The kernel {self.function.__name__} does not run here, so torch computes in its "
                f"place, more slowly: {self.broken[:300]}",
                stacklevel=2,
            )
            return False
        return True

    @property
    def compiled(self) -> Any:
        """The function as Triton has it."""
        if self._compiled is None:
            triton = importlib.import_module("triton")
            language = importlib.import_module("triton.language")
            self.function.__globals__["tl"] = language
            self._compiled = triton.jit(self.function, do_not_specialize=self.varies)
        return self._compiled


def block_of(count: int) -> int:
    """The smallest power of two that holds `count`: what a kernel can keep in registers."""
    return 1 << max(count - 1, 0).bit_length()
