"""The picture that a request starts from: what is asked of it, and the canvas it is laid on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sakuga.api.framing import (
    Box,
    Limits,
    Margins,
    Size,
    around,
    fits,
    frame_of,
    in_proportion,
    is_whole,
    own_size,
    padded,
    parse_margins,
    size_of,
    zoomed,
)
from sakuga.api.request import Request
from sakuga.errors import RequestError
from sakuga.files.pictures import PictureRecord, load_rgb, look_at, record_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from sakuga.files.canvas import Canvas

IMAGE_STRENGTH, MASK_STRENGTH = 0.6, 1.0  # when nobody says, for a picture whole and in part


@dataclass(frozen=True, slots=True)
class Start:
    """A canvas to draw on, which files it was made of, and what is worth knowing of that."""

    canvas: Canvas
    image: PictureRecord
    mask: PictureRecord | None
    notes: tuple[str, ...]


def usual_strength(request: Request) -> float | None:
    """The strength when nobody says: None without a picture."""
    if request.image is None:
        return None
    return IMAGE_STRENGTH if request.mask is None and request.outpaint is None else MASK_STRENGTH


def drawn_size(request: Request, limits: Limits) -> Size:
    """The size in which a request with a picture is drawn, as far as it leaves that open.

    Raises RequestError for a picture that cannot be read, or be kept in its size.
    """
    assert request.image is not None
    margins, seen = parse_margins(request.outpaint), look_at(request.image).size
    canvas = margins.around(seen)
    if request.width is not None and request.height is not None:
        return request.width, request.height
    shape = canvas
    if request.only_masked:
        shape = size_of(_region(request, _mask(request, seen, margins)[0], canvas))
    if request.width is not None or request.height is not None:
        return in_proportion(shape, request.width, request.height, limits)
    if request.only_masked:
        return zoomed(shape, limits)
    if request.mask is None and is_whole(margins):
        return own_size(canvas, limits)
    size = padded(canvas, limits)
    if not fits(size, limits):
        raise RequestError(
            f"what is drawn in part keeps its size, of at most {limits.max_pixels:,} pixels "
            f"and sides of at most {limits.max_side}",
            f"{canvas[0]}x{canvas[1]}",
            "Give --size to make all of it smaller, or --only-masked to draw a part alone.",
        )
    return size


def load_start(request: Request, size: Size, limits: Limits) -> Start:
    """All that a request starts from, decoded, to be drawn in `size`. Raises RequestError."""
    assert request.image is not None
    margins, seen = parse_margins(request.outpaint), look_at(request.image).size
    canvas, notes = margins.around(seen), list[str]()
    mask, said = _mask(request, seen, margins)  # first: it may end here, before the larger one
    loaded = load_rgb(request.image)
    notes += [*loaded.notes, *said]
    from sakuga.files.canvas import Canvas, covering, cropped  # noqa: PLC0415
    from sakuga.files.masks import feathered, grown  # noqa: PLC0415

    sides = (-margins.left, -margins.top, seen[0] + margins.right, seen[1] + margins.bottom)
    pixels, alpha = cropped(loaded.pixels, sides), None
    if mask is not None:
        alpha = feathered(grown(mask, request.mask_grow or 0), request.mask_feather or 0)
    if request.only_masked:
        frame = frame_of(_region(request, mask, canvas), size, canvas)
    else:
        frame = (0, 0, *size)
        if size != padded(canvas, limits) or (mask is None and min(canvas) < limits.min_side):
            pixels = covering(pixels, size)
            alpha = None if alpha is None else covering(alpha, size)
            notes.append(_resized(canvas, size))
    record = None if request.mask is None else record_of(request.mask)
    return Start(Canvas(pixels, alpha, frame, size), record_of(request.image), record, tuple(notes))


def _resized(canvas: Size, size: Size) -> str:
    """What to know of a picture that is drawn in another size than its own."""
    cut = "" if canvas[0] * size[1] == canvas[1] * size[0] else ", what stands out cut off"
    return (
        f"The picture of {canvas[0]}x{canvas[1]} is drawn from as {size[0]}x{size[1]}: resized "
        f"(Lanczos){cut}."
    )


def _mask(
    request: Request, size: Size, margins: Margins
) -> tuple[NDArray[Any] | None, tuple[str, ...]]:
    """What is drawn anew of the canvas, None for all, and notes on the file of the mask."""
    if request.mask is None and is_whole(margins):
        return None, ()
    import numpy as np  # noqa: PLC0415

    from sakuga.files.masks import read_mask  # noqa: PLC0415

    mask: NDArray[Any] = np.zeros((size[1], size[0]), np.bool_)
    notes: tuple[str, ...] = ()
    if request.mask is not None:
        mask, notes = read_mask(request.mask, size, invert=request.mask_invert)
    edges = ((margins.top, margins.bottom), (margins.left, margins.right))
    return np.pad(mask, edges, constant_values=True), notes


def _region(request: Request, mask: NDArray[Any] | None, canvas: Size) -> Box:
    """The part of the canvas that --only-masked draws, its padding within."""
    from sakuga.files.masks import box_of  # noqa: PLC0415

    assert mask is not None  # it is said of a mask
    reach = (request.mask_grow or 0) + (request.mask_feather or 0)
    return around(box_of(mask), reach + (request.mask_padding or 0), canvas)
