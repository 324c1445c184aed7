"""A kernel that Triton compiles when a card first needs it, and what is said where it cannot.

Nothing of Triton is imported before: a computer without a card, or without Triton, computes the
reference beside each kernel, and never waits for a compiler.
"""

from __future__ import annotations

import importlib
import importlib.util
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import torch
from torch import Tensor

OLDEST = (8, 0)  # the compute capability from which cards compute in bfloat16
LAUNCHED_ALIKE = ("3.4.", "3.5.", "3.6.")  # versions of Triton whose compiled kernels run alike


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


@dataclass(eq=False)
class Kernel:
    """One kernel: a function in Triton's language, compiled by its first launch.

    varies: its arguments that change with sizes, for which it is not compiled anew. broken: what
    the compiler said where it could not; the reference computes from then on.
    """

    function: Callable[..., None]
    varies: tuple[str, ...] = ()
    broken: str = ""
    _jit: Any = None
    _compiled: dict[tuple[object, ...], Any] = field(default_factory=dict)

    def takes(self, x: Tensor) -> bool:
        """Whether it computes `x`: on a card that can, and where no gradient is asked for."""
        if not x.is_cuda or self.broken or torch.is_grad_enabled():
            return False
        return x.is_contiguous() and not refusal(x.device.index)

    def launch(
        self, programs: int, args: Sequence[object], constants: Mapping[str, object], warps: int
    ) -> bool:
        """Run it on the current stream; False, with nothing written, where it cannot be compiled.

        constants: what it is compiled for, its last arguments by name and in order.
        """
        try:
            self._launch(programs, args, constants, warps)
        except torch.OutOfMemoryError:
            raise
        except Exception as error:  # a compiler may fail in any way
            self.broken = f"{type(error).__name__}: {error}"
            warnings.warn(
                f"The kernel {self.function.__name__} does not run here, so torch computes in its "
                f"place, more slowly: {self.broken[:300]}",
                stacklevel=2,
            )
            return False
        return True

    def _launch(
        self, programs: int, args: Sequence[object], constants: Mapping[str, object], warps: int
    ) -> None:
        """Triton finds a compiled kernel by long names, which takes the host 20 us a launch."""
        key = (*map(_trait, args), *constants.values(), warps)
        known = self._compiled.get(key)
        if known is None:
            known = self.jit[programs,](*args, **constants, num_warps=warps)
            if importlib.import_module("triton").__version__.startswith(LAUNCHED_ALIKE):
                self._compiled[key] = known
            return
        stream = torch._C._cuda_getCurrentRawStream(torch.cuda.current_device())
        known.run(
            programs, 1, 1, stream, known.function, known.packed_metadata, None, None, None,
            *args, *constants.values(),
        )  # fmt: skip

    @property
    def jit(self) -> Any:
        """The function as Triton has it."""
        if self._jit is None:
            triton = importlib.import_module("triton")
            self.function.__globals__["tl"] = importlib.import_module("triton.language")
            self._jit = triton.jit(self.function, do_not_specialize=self.varies)
        return self._jit


@contextmanager
def references() -> Iterator[None]:
    """Within, no kernel computes: what each is held to, and measured against."""
    before = Kernel.takes
    Kernel.takes = lambda *_: False  # type: ignore[method-assign]
    try:
        yield
    finally:
        Kernel.takes = before  # type: ignore[method-assign]


def kernel(*varies: str) -> Callable[[Callable[..., None]], Kernel]:
    """Make a kernel of a function; it is not compiled anew for the arguments that are named."""
    return lambda function: Kernel(function, varies)


def _trait(value: object) -> object:
    """What of an argument a kernel is compiled for, or more."""
    if isinstance(value, Tensor):
        return value.dtype, value.device.index, value.data_ptr() % 16 == 0
    return None if isinstance(value, float) else value


def block_of(count: int) -> int:
    """The smallest power of two that holds `count`: what a kernel can keep in registers."""
    return 1 << max(count - 1, 0).bit_length()
