"""What adapters add to a linear or a norm, computed beside it: a class for each way to do so.

A change of weights, W + A, is never made into a matrix of its own where factors are smaller: a
linear's output gains A·x. Where A depends on W, as in DoRA and OFT, A·x is made from what W
itself makes of an input, so W may be stored in any format and lie anywhere.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

Product = Callable[[Tensor], Tensor]  # x (T, in) to W·x (T, out), without a bias


class LinearChange(nn.Module):
    """What is added to a linear (in -> out); `rows`: of which rows of it, None for all."""

    rows: tuple[int, int] | None = None

    def add_to(self, y: Tensor, x: Tensor, base: Product | None = None) -> None:
        """Add to y (T, out) what x (T, in) gives. base: the linear without its bias."""
        raise NotImplementedError

    def matrix(self, weight: Tensor | None = None) -> Tensor:
        """What folding it into the rows (out, in) of a weight adds to them, in float32."""
        raise NotImplementedError

    def of_rows(self, y: Tensor) -> Tensor:
        """The columns of (T, out) that it changes, as a view."""
        return y if self.rows is None else y[:, slice(*self.rows)]


class Delta(LinearChange):
    """A·x of the matrix A = kron(w1, up @ down), which W has no part in.

    `w1` (a, b), or None for 1: a plain LoRA. `up` (c, r) and `down` (r, d), or `up` (c, d)
    alone where the factor is whole. out = a·c, in = b·d, and with `rows` out is their number.
    """

    w1: Tensor | None
    up: Tensor
    down: Tensor | None

    def __init__(
        self,
        w1: Tensor | None,
        up: Tensor,
        down: Tensor | None,
        scale: float = 1.0,
        rows: tuple[int, int] | None = None,
    ) -> None:
        super().__init__()
        self.register_buffer("w1", w1)
        self.register_buffer("up", up)
        self.register_buffer("down", down)
        self.scale, self.rows = scale, rows

    def add_to(self, y: Tensor, x: Tensor, base: Product | None = None) -> None:
        """Add to y (T, out) what x (T, in) gives.

        The last product adds where it has to. What is made on the way is about as large as x
        and y at most, or, for a LoRA, has as many numbers per token as the rank.
        """
        part = self.of_rows(y)
        up = self.up.to(x.dtype)
        if self.w1 is None:
            part.addmm_(self._narrowed(x), up.t(), alpha=self.scale)
            return
        # kron(A, B) applied to a vector is B to the rows and A to the columns of its matrix:
        # first the one that leaves less.
        w1 = self.w1.to(x.dtype).expand(len(x), -1, -1)
        x = self._narrowed(x.unflatten(1, (w1.shape[2], -1)))
        sums = part.unflatten(1, (w1.shape[1], len(up)))
        if w1.shape[1] * x.shape[2] > w1.shape[2] * len(up):
            sums.baddbmm_(w1, F.linear(x, up), alpha=self.scale)
        elif sums.is_contiguous():
            sums.flatten(0, 1).addmm_(torch.bmm(w1, x).flatten(0, 1), up.t(), alpha=self.scale)
        else:
            sums.add_(F.linear(torch.bmm(w1, x), up), alpha=self.scale)

    def _narrowed(self, x: Tensor) -> Tensor:
        """(..., d) to (..., r), where the second factor is of low rank."""
        return x if self.down is None else F.linear(x, self.down.to(x.dtype))

    def matrix(self, weight: Tensor | None = None) -> Tensor:
        """The delta itself (out, in) in float32, scaled: what folding it into a weight adds."""
        factor = self.up.float() * self.scale  # here it is small, and needs no large copy
        if self.down is not None:
            factor = factor @ self.down.float()
        return factor if self.w1 is None else torch.kron(self.w1.float(), factor)

    def extra_repr(self) -> str:
        """What `print(module)` says of it."""
        kind = "low rank" if self.w1 is None else "kron"
        return f"{kind}, scale={self.scale:g}" + (f", rows={self.rows}" if self.rows else "")


class Decomposed(LinearChange):
    """DoRA: W + D, each row (or column) of it given the norm that was trained.

    inner: D, at full strength. `gain` (out,) or (in,): strength · (m / ‖W + D‖ - 1). It is kept
    without the 1 beside it, near which half precision has no digits.
    """

    gain: Tensor

    def __init__(
        self, inner: Delta, gain: Tensor, *, columns: bool, rows: tuple[int, int] | None = None
    ) -> None:
        super().__init__()
        self.inner, self.columns, self.rows = inner, columns, rows
        self.register_buffer("gain", gain)

    @classmethod
    def of(
        cls, inner: Delta, magnitude: Tensor, weight: Tensor, strength: float,
        rows: tuple[int, int] | None = None,
    ) -> Decomposed:  # fmt: skip
        """Measured on the rows of a weight (out, in) that it changes."""
        columns = magnitude.dim() == 2 and magnitude.shape[1] != 1
        norms = (weight.float() + inner.matrix()).norm(dim=0 if columns else 1)
        tiny = torch.finfo(torch.float32).tiny  # a row of zeros stays one, whatever its norm
        gain = strength * (magnitude.float().flatten() / norms.clamp_min(tiny) - 1)
        gain = torch.where(norms > 0, gain, torch.zeros_like(gain))
        gain = torch.where(norms.isfinite(), gain, norms)  # not to be hidden by a division
        return cls(inner, gain, columns=columns, rows=rows)

    def add_to(self, y: Tensor, x: Tensor, base: Product | None = None) -> None:
        """Add D·x, and of (W + D)·x as much as the gain says."""
        assert base is not None
        part, gain = self.of_rows(y), self.gain.to(x.dtype)
        if self.columns:
            scaled = x * gain
            self.inner.add_to(part, x)
            self.inner.add_to(part, scaled)
            part.add_(self.of_rows(base(scaled)))
            return
        whole = self.of_rows(base(x))
        self.inner.add_to(whole, x)
        self.inner.add_to(part, x)
        part.addcmul_(whole, gain)

    def matrix(self, weight: Tensor | None = None) -> Tensor:
        """W' - W of the weight's rows."""
        assert weight is not None
        delta, gain = self.inner.matrix(), self.gain.float()
        return delta + (weight + delta) * (gain if self.columns else gain[:, None])


class Turn(LinearChange):
    """OFT: inputs, or outputs, turned in blocks.

    `turn` (n, b, b): R - 1, by which a block is multiplied from the right; one alone (1, b, b)
    turns every block.
    """

    turn: Tensor

    def __init__(
        self, turn: Tensor, scale: float, *, outputs: bool, rows: tuple[int, int] | None = None
    ) -> None:
        super().__init__()
        self.register_buffer("turn", turn)
        self.scale, self.outputs, self.rows = scale, outputs, rows

    def add_to(self, y: Tensor, x: Tensor, base: Product | None = None) -> None:
        """Add what turning makes of W·x beside it."""
        assert base is not None
        part = self.of_rows(y)
        if self.outputs:
            blocks, turn = self._blocks(self.of_rows(base(x)))
            self._blocks(part)[0].baddbmm_(blocks, turn, alpha=self.scale)
        else:
            part.add_(self.of_rows(base(self._turned(x))), alpha=self.scale)

    def _blocks(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """(T, n·b) as a view (n, T, b), and what turns it (n, b, b)."""
        blocks = x.unflatten(1, (-1, self.turn.shape[-1])).transpose(0, 1)
        return blocks, self.turn.to(x.dtype).expand(len(blocks), -1, -1)

    def _turned(self, x: Tensor) -> Tensor:
        made = torch.empty_like(x)
        blocks, turn = self._blocks(x)
        self._blocks(made)[0].baddbmm_(blocks, turn, beta=0)
        return made

    def matrix(self, weight: Tensor | None = None) -> Tensor:
        """W' - W of the weight's rows."""
        assert weight is not None
        if self.outputs:
            return self._turned(weight.t()).t() * self.scale
        side = self.turn.shape[-1]
        blocks = weight.unflatten(1, (-1, side)).transpose(0, 1)
        back = self.turn.float().transpose(1, 2).expand(len(blocks), -1, -1)
        return torch.bmm(blocks, back).transpose(0, 1).flatten(1) * self.scale


class BiasChange(LinearChange):
    """A vector (out,) added to the output, whatever the input."""

    bias: Tensor

    def __init__(self, bias: Tensor, scale: float, rows: tuple[int, int] | None = None) -> None:
        super().__init__()
        self.register_buffer("bias", bias)
        self.scale, self.rows = scale, rows

    def add_to(self, y: Tensor, x: Tensor, base: Product | None = None) -> None:
        """Add it."""
        self.of_rows(y).add_(self.bias.to(y.dtype), alpha=self.scale)

    def matrix(self, weight: Tensor | None = None) -> Tensor:
        """What folding it into the rows of a bias adds."""
        return self.bias.float() * self.scale


class NormChange(nn.Module):
    """What an adapter adds to a norm's weight, and to its output: (dim,) each."""

    weight: Tensor
    bias: Tensor | None

    def __init__(self, weight: Tensor, bias: Tensor | None, scale: float = 1.0) -> None:
        super().__init__()
        self.register_buffer("weight", weight)
        self.register_buffer("bias", bias)
        self.scale = scale


def rotation_of_triangles(values: Tensor, terms: int) -> Tensor:
    """R - 1 (n, b, b) of PEFT's OFT, from upper triangles (n, b·(b-1)/2).

    terms: of the series (1 + Q)(1 - Q)⁻¹ = 1 + 2Q + 2Q² + ..., whose last one counts half; 0 for
    the exact (1 - Q)(1 + Q)⁻¹, which is its transposed: so PEFT has it.
    """
    values = values.float()
    side = (1 + round((1 + 8 * values.shape[1]) ** 0.5)) // 2
    skew = values.new_zeros(len(values), side, side)
    high, wide = torch.triu_indices(side, side, 1)
    skew[:, high, wide] = values
    skew = skew - skew.transpose(1, 2)
    if not terms:
        return cayley(-skew)
    powers = [skew]  # to the third at least, where there are more than two terms
    while terms > 2 and len(powers) < max(3, terms - 1):
        powers.append(powers[-1] @ skew)
    *first, last = (2 * power for power in powers) if terms > 1 else (0 * skew,)
    total: Tensor = sum(first, last / 2 if terms > 2 else last)
    return total


def rotation_of_blocks(blocks: Tensor, limit: float) -> Tensor:
    """R - 1 of LyCORIS' diag-OFT from blocks (n, b, b); limit: of the norm of all Q, 0 for none."""
    skew = blocks.float() - blocks.float().transpose(1, 2)
    norm = float(skew.norm()) + 1e-8
    return cayley(skew * (limit / norm) if 0 < limit < norm else skew)


def cayley(skew: Tensor) -> Tensor:
    """(1 + Q)(1 - Q)⁻¹ - 1, which is 2Q(1 - Q)⁻¹: without the 1, for the sake of its digits."""
    one = torch.eye(skew.shape[-1], device=skew.device)
    half: Tensor = torch.linalg.solve(one - skew, skew, left=False)
    return 2 * half
