"""The gated product of a feed-forward (SwiGLU, arXiv 2002.05202), in the memory of its gate."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor, nn
from torch.nn import functional as F

from sakuga.model.fused.kernel import block_of, kernel

if TYPE_CHECKING:
    import triton.language as tl

BLOCK, WARPS = 1024, 4


def gated(x: Tensor, w1: nn.Module, w3: nn.Module) -> Tensor:
    """silu(w1(x)) · w3(x) of a pack (..., D): (..., F)."""
    if _gated.takes(x):
        gate, value = w1(x), w3(x)
        made: Tensor = gate if launch_gated(gate, value, gate) else F.silu(gate) * value
        return made
    made = F.silu(w1(x)) * w3(x)
    return made


def launch_gated(
    gate: Tensor, value: Tensor, made: Tensor, block: int = BLOCK, warps: int = WARPS
) -> bool:
    """`gated` into `made`, by the kernel. Rows may lie apart."""
    width = gate.shape[-1]
    block = min(block, block_of(width))
    columns = -(-width // block)
    return _gated.launch(
        gate.numel() // width * columns,
        (gate, value, made, gate.stride(-2), value.stride(-2), made.stride(-2)),
        {"F": width, "BLOCK": block, "COLUMNS": columns}, warps,
    )  # fmt: skip


@kernel()
def _gated(
    gate, value, made, gate_row, value_row, made_row,
    F: tl.constexpr, BLOCK: tl.constexpr, COLUMNS: tl.constexpr,
):  # fmt: skip
    program = tl.program_id(0)
    row = (program // COLUMNS).to(tl.int64)
    at = program % COLUMNS * BLOCK + tl.arange(0, BLOCK)
    inside = at < F
    a = tl.load(gate + row * gate_row + at, mask=inside, other=0.0).to(tl.float32)
    b = tl.load(value + row * value_row + at, mask=inside, other=0.0).to(tl.float32)
    product = a * tl.sigmoid(a) * b
    tl.store(made + row * made_row + at, product.to(made.dtype.element_ty), mask=inside)
