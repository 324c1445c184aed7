"""Every kind of change that an adapter's file may hold, in one table: its tensors and shapes.

W is the module's weight, D what low-rank factors make, scaled in full, s the strength:

    lora        W + s·D, D = scale · up @ down                    arXiv 2106.09685
    lokr        W + s·D, D = scale · kron(w1, w2)                 arXiv 2309.14859
    loha        W + s·D, D = scale · (w1_a@w1_b) * (w2_a@w2_b)    arXiv 2108.06098
    dora, ...   (W + D) · (s · (m / ‖W + D‖ - 1) + 1)             arXiv 2402.09353
    oft-input   W + s · (W @ Rᵀ - W), R of blocks                 arXiv 2306.07280
    oft-output  W + s · (Rᵀ @ W - W)
    norm, diff  W + s · what the file holds
    whole       W + s · (V - W), V trained instead of W

How they are computed says `adapters.deltas`; nothing here needs more than a file's header.
"""  # fmt: skip

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from sakuga.weights.formats import Shape

Shapes = Mapping[str, Shape]
MAGNITUDE = "magnitude"


@dataclass(frozen=True, slots=True)
class Measured:
    """What shapes say of a part.

    shape: of the weight it changes, (out, in) or (dim,); 0 stands for a side that it does not
    tell. rank: 0 where there is none. kept: shapes of what is held of it while it is applied, by
    the names of the buffers in `adapters.deltas`. repeated: whether `shape` may go into the
    module's several times, side by side.
    """

    shape: Shape
    rank: int
    kept: Shapes
    repeated: bool = False

    def fits(self, wanted: Shape) -> bool:
        """Whether it changes a weight of this shape."""
        if len(self.shape) != len(wanted):
            return False
        return all(
            not side or (other % side == 0 if self.repeated else other == side)
            for side, other in zip(self.shape, wanted, strict=True)
        )


def numbers_again(kind: str, kept: Shapes, shape: Shape) -> tuple[int, int]:
    """Numbers per token that a change holds because its linear (out, in) computes a second time.

    First while it computes, that product among them; then while the change alone does. Zeros
    where there is no second time. See `adapters.deltas`.
    """
    rows, columns = shape
    if kind == "oft-output":
        return rows, rows
    if kind == "oft-input":
        return rows + columns, columns
    if "gain" not in kept:
        return 0, 0
    scaled = columns if kept["gain"] == (columns,) else 0
    up, down = kept["inner.up"], kept.get("inner.down")
    inner = up[1] if down else 0  # what the low rank leaves
    if "inner.w1" in kept:
        first, second = kept["inner.w1"]
        inner = second * inner + min(first * up[1], second * up[0])
    return rows + scaled, (scaled or rows) + inner


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of change.

    title, formula, trainers: for people. sets: roles of the tensors that make one, each set
    whole. measure: what their shapes say, None where they do not fit each other. scaled: whether
    alpha / rank counts. bias: whether it is a bias that changes, instead of a weight.
    """

    name: str
    title: str
    formula: str
    trainers: str
    sets: tuple[frozenset[str], ...]
    measure: Callable[[Shapes], Measured | None]
    scaled: bool = False
    bias: bool = False


def is_narrow(rows: int, columns: int, rank: int) -> bool:
    """Whether a product of this rank takes less as two factors than whole."""
    return 0 < rank * (rows + columns) < rows * columns


def _product(left: Shape, right: Shape) -> tuple[tuple[int, int], int] | None:
    """The shape and the inner dimension of left @ right; None where there is no such product."""
    if len(left) != 2 or len(right) != 2 or left[1] != right[0] or 0 in left or 0 in right:
        return None
    return (left[0], right[1]), left[1]


def _lora(shapes: Shapes) -> Measured | None:
    up, down = shapes["up"], shapes["down"]
    product = _product(up, down)
    return product and Measured(product[0], product[1], {"up": up, "down": down})


def _lokr(shapes: Shapes) -> Measured | None:
    """Of a Kronecker product the sides are products of the factors' sides."""
    factors = []
    for name in ("w1", "w2"):
        whole = (shapes[name], 0) if name in shapes else None
        found = whole or _product(shapes[f"{name}_a"], shapes[f"{name}_b"])
        if found is None or len(found[0]) != 2 or 0 in found[0]:
            return None
        factors.append(found)
    ((a, b), first), ((c, d), second) = factors
    if first and second and first != second:
        return None
    return Measured((a * c, b * d), second or first, {"w1": (a, b), **_narrowest(c, d, second)})


def _loha(shapes: Shapes) -> Measured | None:
    """A product value by value of two of rank r is a product of rank r²."""
    first = _product(shapes["hada_w1_a"], shapes["hada_w1_b"])
    second = _product(shapes["hada_w2_a"], shapes["hada_w2_b"])
    if first is None or first != second:
        return None
    (rows, columns), rank = first
    return Measured((rows, columns), rank, _narrowest(rows, columns, rank * rank))


def _narrowest(rows: int, columns: int, rank: int) -> dict[str, Shape]:
    """A product's two factors, or the product, whichever takes less."""
    if is_narrow(rows, columns, rank):
        return {"up": (rows, rank), "down": (rank, columns)}
    return {"up": (rows, columns)}


def _decomposed(inner: Callable[[Shapes], Measured | None], shapes: Shapes) -> Measured | None:
    """DoRA over another kind: a magnitude of each row (out,) or (out, 1), or column (1, in)."""
    found = inner(shapes)
    magnitude = shapes[MAGNITUDE]
    if found is None:
        return None
    rows, columns = found.shape
    if magnitude not in ((rows,), (rows, 1), (1, columns)):
        return None
    kept = {f"inner.{name}": shape for name, shape in found.kept.items()}
    return replace(found, kept=kept | {"gain": (math.prod(magnitude),)})


def _norm(shapes: Shapes) -> Measured | None:
    shape = shapes["w_norm"]
    if len(shape) != 1 or 0 in shape or shapes.get("b_norm", shape) != shape:
        return None
    names = {"w_norm": "weight", "b_norm": "bias"}
    return Measured(shape, 0, {names[role]: each for role, each in shapes.items()})


def _whole(shapes: Shapes) -> Measured | None:
    (shape,) = shapes.values()
    if len(shape) not in (1, 2) or 0 in shape:
        return None
    return Measured(shape, 0, {"up" if len(shape) == 2 else "weight": shape})


def _bias(shapes: Shapes) -> Measured | None:
    (shape,) = (shape for role, shape in shapes.items() if role not in ("up", "down"))
    return (
        Measured((shape[0], 0), 0, {"bias": shape}) if len(shape) == 1 and 0 not in shape else None
    )


def _scaled_bias(shapes: Shapes) -> Measured | None:
    found, product = _bias(shapes), _lora(shapes)
    if found is None or product is None or found.shape[0] != product.shape[0]:
        return None
    return replace(found, rank=product.rank)


def _oft_input(shapes: Shapes) -> Measured | None:
    """Upper triangles (n, b·(b-1)/2) of n skew matrices (b, b); one alone may be every block's."""
    shape = shapes["oft_input"]
    if len(shape) != 2 or 0 in shape:
        return None
    count, values = shape
    side = (1 + math.isqrt(1 + 8 * values)) // 2
    if side * (side - 1) // 2 != values:
        return None
    return Measured((0, count * side), 0, {"turn": (count, side, side)}, repeated=count == 1)


def _oft_output(shapes: Shapes) -> Measured | None:
    shape = shapes["oft_output"]
    if len(shape) != 3 or shape[1] != shape[2] or 0 in shape:
        return None
    return Measured((shape[0] * shape[1], 0), 0, {"turn": shape})


def _sets(*sets: str) -> tuple[frozenset[str], ...]:
    return tuple(frozenset(each.split()) for each in sets)


LORA = Kind(
    "lora", "LoRA", "W + s·a/r · B·A", "PEFT, diffusers, kohya, LyCORIS, OneTrainer, ComfyUI",
    _sets("down up"), _lora, scaled=True,
)  # fmt: skip
LOKR = Kind(
    "lokr", "LoKr", "W + s·a/r · w1 ⊗ w2", "LyCORIS, PEFT",
    _sets("w1 w2", "w1 w2_a w2_b", "w1_a w1_b w2", "w1_a w1_b w2_a w2_b"), _lokr, scaled=True,
)  # fmt: skip
LOHA = Kind(
    "loha", "LoHa", "W + s·a/r · (w1_a·w1_b) ∘ (w2_a·w2_b)", "LyCORIS, PEFT, OneTrainer",
    _sets("hada_w1_a hada_w1_b hada_w2_a hada_w2_b"), _loha, scaled=True,
)  # fmt: skip


def _dora(inner: Kind) -> Kind:
    """DoRA over another kind."""
    return Kind(
        f"dora-{inner.name}" if inner is not LORA else "dora",
        f"DoRA of {inner.title}" if inner is not LORA else "DoRA",
        "(W + D)·(s·(m/‖W + D‖ - 1) + 1), by rows or columns",
        "PEFT, LyCORIS, OneTrainer" if inner is LORA else "LyCORIS, OneTrainer",
        tuple(each | {MAGNITUDE} for each in inner.sets),
        lambda shapes: _decomposed(inner.measure, shapes),
        scaled=True,
    )


KINDS: tuple[Kind, ...] = (
    LORA, LOKR, LOHA, *map(_dora, (LORA, LOKR, LOHA)),
    Kind("oft-input", "OFT", "W + s·(W·Rᵀ - W)", "PEFT", _sets("oft_input"), _oft_input),
    Kind("oft-output", "diag-OFT", "W + s·(Rᵀ·W - W)", "LyCORIS", _sets("oft_output"), _oft_output),
    Kind("norm", "norm", "W + s·w_norm, then + s·b_norm", "LyCORIS, ComfyUI",
         _sets("w_norm", "w_norm b_norm"), _norm),
    Kind("diff", "difference", "W + s·diff", "ComfyUI, LyCORIS", _sets("diff"), _whole),
    Kind("whole", "whole weight", "W + s·(V - W)", "PEFT (modules_to_save)", _sets("whole"),
         _whole),
    Kind("bias", "bias difference", "b + s·diff_b", "ComfyUI, LyCORIS", _sets("diff_b"), _bias,
         bias=True),
    Kind("lora-bias", "LoRA's bias", "b + s·a/r · B's bias", "PEFT (lora_bias)",
         _sets("up_bias down up"), _scaled_bias, scaled=True, bias=True),
    Kind("whole-bias", "whole bias", "b + s·(v - b)", "PEFT (bias, modules_to_save)",
         _sets("whole_bias"), _bias, bias=True),
)  # fmt: skip
BY_ROLES: Mapping[frozenset[str], Kind] = {each: kind for kind in KINDS for each in kind.sets}
BY_NAME: Mapping[str, Kind] = {kind.name: kind for kind in KINDS}
