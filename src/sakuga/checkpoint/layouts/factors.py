"""How adapters name their factors: the ends of tensor names, and the part that each plays."""

from __future__ import annotations

import re
from collections.abc import Mapping

# Alpha is a number, all others are factors.
ROLES: Mapping[str, str] = {
    ".lora_A.weight": "down",
    ".lora_B.weight": "up",
    ".lora_A.default.weight": "down",
    ".lora_B.default.weight": "up",
    ".lora_down.weight": "down",
    ".lora_up.weight": "up",
    ".lora.down.weight": "down",
    ".lora.up.weight": "up",
    ".lokr_w1": "w1",
    ".lokr_w1_a": "w1_a",
    ".lokr_w1_b": "w1_b",
    ".lokr_w2": "w2",
    ".lokr_w2_a": "w2_a",
    ".lokr_w2_b": "w2_b",
    ".w_norm": "w_norm",
    ".b_norm": "b_norm",
    ".alpha": "alpha",
}
# Changes of other kinds, and tensors that change what those beside them mean: leaving one out
# would draw something else.
OTHER_KINDS: Mapping[str, str] = {
    ".dora_scale": "DoRA",
    ".lora_magnitude_vector": "DoRA",
    ".lora_magnitude_vector.weight": "DoRA",
    ".lora_mid.weight": "a Tucker decomposition",
    ".lokr_t2": "a Tucker decomposition",
    ".scalar": "a trained scalar",
    **dict.fromkeys((".hada_w1_a", ".hada_w1_b", ".hada_w2_a", ".hada_w2_b"), "LoHa"),
    **dict.fromkeys((".hada_t1", ".hada_t2"), "LoHa"),
    **dict.fromkeys((".oft_blocks", ".oft_diag", ".oft_R.weight"), "OFT"),
    **dict.fromkeys((".diff", ".diff_b"), "whole differences of weights"),
}
ENDS = (*ROLES, *OTHER_KINDS)


def _pattern() -> re.Pattern[str]:
    """A factor anywhere in a name, whatever follows it, but for those that a layout bakes in."""
    listed = {re.sub(r"(\.default)?\.weight$", "", end.removeprefix(".")) for end in ENDS}
    members = r"(?:lokr|hada|oft|boft|glora|diff)_\w+"  # of families, listed above or not
    names = "|".join((*map(re.escape, sorted(listed)), members))
    return re.compile(rf"(?<!parametrizations\.weight\.0)\.(?:{names})(?:\.|$)")


FACTOR = _pattern()
