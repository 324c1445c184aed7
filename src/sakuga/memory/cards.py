"""What a plan must know of a card: how much it holds, and how fast it computes and copies.

Rates are what real kernels reach, not what a data sheet promises. A plan turns them into
seconds, so that it can tell which lever costs least; it never decides from them what fits.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from sakuga.errors import RequestError

GB = 10**9
GIB = 2**30
CONTEXT = 600 * 2**20  # what a driver and its libraries take, until measured; no limit counts it
# With biases, of the default size: 32 MiB since Hopper, 8.5 MiB before.
LARGE_WORKSPACE, SMALL_WORKSPACE = 33 * 2**20, 8_912_896
ROOFLINE = (
    "roofline of published rates: linear layers at 85% of the vendor's peak, convolutions at 20%"
)


@dataclass(frozen=True, slots=True)
class Card:
    """One card. `tflops` of matrix products, `attention_tflops` of attention.

    These and `convolution_tflops` are rates in the 16-bit format the card computes in, kept up
    for seconds on end; float32 runs `float32_share` as fast. `memory_gbs` and `link_gbs` are
    GB/s within the card and from pinned host memory. `workspace`: bytes that cuBLAS takes
    beside our tensors. `bfloat16`: whether it computes in it natively. `unified`: its memory
    is the host's, so nothing has to be moved to stay, and a copy takes the processor's own
    time. `fused`: Triton's kernels run there. `measured`: by us, on such a card; otherwise
    `source` says where the estimate is from.
    """

    name: str
    title: str
    memory: int
    tflops: float
    attention_tflops: float
    convolution_tflops: float
    memory_gbs: float
    link_gbs: float
    source: str
    float32_share: float = 0.5
    workspace: int = SMALL_WORKSPACE
    bfloat16: bool = True
    unified: bool = False
    fused: bool = True
    measured: bool = False

    @property
    def dtype(self) -> str:
        """What a drawing computes in there where nobody says."""
        return "bfloat16" if self.bfloat16 else "float32"

    def peak(self, dtype: str) -> float:
        """Operations per second of linear layers in `dtype`."""
        return self._rate(self.tflops, dtype)

    def convolution_peak(self, dtype: str) -> float:
        """Operations per second of convolutions in `dtype`."""
        return self._rate(self.convolution_tflops, dtype)

    def attention_peak(self, dtype: str) -> float:
        """Operations per second of attention in `dtype`."""
        return self._rate(self.attention_tflops, dtype)

    def _rate(self, tflops: float, dtype: str) -> float:
        return tflops * 1e12 * (self.float32_share if dtype == "float32" else 1.0)


H200 = Card(
    "h200", "NVIDIA H200", 141 * GB, 705.0, 446.0, 163.0, 4300.0, 55.0,
    "measured: decoding, pinned copies; products and attention as on an H100, which computes alike",
    float32_share=0.5, workspace=LARGE_WORKSPACE, measured=True,
)  # fmt: skip
H100 = Card(
    "h100", "NVIDIA H100 80GB", 80 * GB, 705.0, 446.0, 148.0, 3000.0, 44.7,
    "measured: evaluations of the transformer at three sizes, decoding, pinned copies",
    float32_share=0.5, workspace=LARGE_WORKSPACE, measured=True,
)  # fmt: skip
RTX_4090 = Card(
    "4090", "NVIDIA GeForce RTX 4090", 24 * GIB, 140.0, 135.0, 34.0, 1008.0, 25.0, ROOFLINE
)
RTX_4060_TI = Card(
    "4060ti", "NVIDIA GeForce RTX 4060 Ti 16GB", 16 * GIB, 37.0, 36.0, 8.9, 288.0, 12.0, ROOFLINE
)
RTX_3060 = Card(
    "3060", "NVIDIA GeForce RTX 3060 12GB", 12 * GIB, 21.7, 20.0, 5.2, 360.0, 25.0, ROOFLINE
)
CPU = Card(
    "cpu", "simulated card", 16 * GIB, 0.1, 0.1, 0.024, 20.0, 10.0,
    "two cores of a laptop; on it a plan decides what is held, not how long it takes",
    float32_share=1.0, workspace=0, bfloat16=False, unified=True, fused=False,
)  # fmt: skip

CARDS = {each.name: each for each in (H200, H100, RTX_4090, RTX_4060_TI, RTX_3060, CPU)}
DEFAULT = RTX_4060_TI


def card_named(name: str) -> Card:
    """The profile of a card by its short name. Raises RequestError on another."""
    if name not in CARDS:
        known = ", ".join(CARDS)
        raise RequestError("--card names a known card", repr(name), f"Known: {known}.")
    return CARDS[name]


def nearest_card(title: str) -> Card:
    """The profile for what a driver calls its card; the default where none is alike.

    Vendors put words around the number: "NVIDIA GeForce RTX 4060 Ti" is the 4060 Ti.
    """
    plain = re.sub(r"[^a-z0-9]", "", title.lower())
    known = [card for card in CARDS.values() if card.name in plain and not card.unified]
    return max(known, key=lambda card: len(card.name), default=DEFAULT)
