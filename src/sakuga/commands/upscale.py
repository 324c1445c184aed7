"""The `upscale` command: pictures enlarged by a network, their receipts kept and extended."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer

from sakuga.api.engine_spec import Budget
from sakuga.api.receipt import UpscalerRecord
from sakuga.api.said import PARAMETERS_KEY, RECEIPT_KEY, receipt_from, texts_of
from sakuga.commands.flags import Without, flags
from sakuga.commands.output import Output
from sakuga.commands.places import picture_paths, prove_writable
from sakuga.commands.streams import tell
from sakuga.errors import RequestError
from sakuga.files.atomic import write_atomically
from sakuga.files.canvas import scaled
from sakuga.files.pictures import Loaded, load_rgba, look_at
from sakuga.files.png import Picture
from sakuga.files.saving import KINDS, PNG, encode_picture
from sakuga.files.texts import read_texts
from sakuga.printable import shown


@flags
def upscale(
    pictures: Annotated[list[Path], typer.Argument(help="Pictures to enlarge.")],
    *,
    model: Annotated[Path, typer.Option(help="The upscaler: a file of weights.")],
    output: Annotated[Output, Without(("source", "text", "allow_other_weights", "memory_report"))],
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")] = "auto",
    vram: Annotated[str, typer.Option(help="How much memory it may use: 8GB.")] = "auto",
) -> None:
    """Enlarge pictures with an upscaler.

    What they say of themselves is kept.
    """
    output.check()
    for picture in pictures:
        look_at(str(picture))  # before any of them is enlarged
    from sakuga.engine.upscaler import Upscaler
    from sakuga.memory.device import Device, choose_device
    from sakuga.weights.sha256 import file_sha256

    where = Device(choose_device(device), Budget(vram=vram))
    upscaler = Upscaler.open(str(model), where, file_sha256)
    places = _places(pictures, output, upscaler.record.scale)
    for picture, place in places.items():
        upscaler.check(look_at(str(picture)).size)
        prove_writable(place, 0, replace=output.force, flag="--out")
    for picture, place in places.items():
        loaded = load_rgba(str(picture))
        made = _enlarged(loaded, upscaler)
        texts = {} if output.no_metadata else _texts(picture, upscaler.record)
        kind = output.kind(place)
        data = encode_picture(made[0], texts, kind, output.quality, made[1])
        write_atomically(place, data, replace=output.force)
        for note in loaded.notes:
            tell(shown(note), err=True)
        tell(f"{shown(str(place))}  {made[0].width}x{made[0].height}")


def _places(pictures: list[Path], output: Output, scale: int) -> Mapping[Path, Path]:
    """Where each picture goes. Raises RequestError for several in one file."""
    suffix = KINDS[output.format or PNG.name].suffix
    out = output.out
    if len(pictures) > 1 and out and not (out.endswith("/") or Path(out).is_dir()):
        raise RequestError(
            "several pictures go to a folder", repr(out), "Let --out end in a slash."
        )
    return {one: picture_paths(out, f"{one.stem}-{scale}x{suffix}", [0])[0] for one in pictures}


def _enlarged(loaded: Loaded, upscaler: Any) -> tuple[Picture, bytes | None]:
    """A picture enlarged, and how opaque each pixel is then."""
    import torch

    pixels = loaded.pixels
    made = upscaler.enlarge(torch.tensor(pixels[..., :3]))
    height, width, _ = made.shape
    alpha = scaled(pixels[..., 3], (width, height)).tobytes() if pixels.shape[2] > 3 else None
    return Picture(width, height, made.numpy().tobytes()), alpha


def _texts(picture: Path, record: UpscalerRecord) -> dict[str, str]:
    """What a picture says of itself, with what enlarged it."""
    try:
        texts = read_texts(picture)
    except RequestError:  # of a kind that holds no texts
        return {}
    if RECEIPT_KEY in texts:
        receipt = receipt_from(texts, picture.name)
        note = () if receipt.upscale is None else (f"Enlarged before, by {receipt.upscale.file}.",)
        return texts_of(replace(receipt, upscale=record, notes=(*receipt.notes, *note)))
    told = texts.get(PARAMETERS_KEY) or texts.get("UserComment")
    return {PARAMETERS_KEY: told} if told else {}
