"""The `lora` commands: adapters shown, merged into a model, and extracted from one."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sakuga.api.engine_spec import EMBEDDED
from sakuga.commands.flags import AsJson, Force, Partial

ADAPTERS = typer.Argument(
    metavar="ADAPTER...", help="FILE[:STRENGTH][:alpha=NUMBER][:BLOCKS=FACTOR]..."
)
Transformer = Annotated[str, typer.Option(help="A model, or a transformer's file or folder.")]


def show(
    adapters: Annotated[list[str], ADAPTERS],
    model: Annotated[
        str | None, typer.Option(help="Also say what of a model they would change.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Say what adapters are, and what they change; exit 1 if they do not fit the model."""
    from sakuga.commands.lora import as_text, read_shown
    from sakuga.commands.streams import fold, page_width

    shown = [read_shown(text, model) for text in adapters]
    text = as_text(shown, as_json=as_json)
    print(text if as_json else "\n".join(fold(text, page_width())))
    if not all(each.fits for each in shown):
        raise typer.Exit(1)


def merge(
    adapters: Annotated[list[str], ADAPTERS],
    out: Annotated[Path, typer.Option(help="The .safetensors file to write.")],
    model: Transformer = EMBEDDED,
    partial: Partial = False,
    force: Force = False,
) -> None:
    """Write the transformer of a model with adapters folded in."""
    from sakuga.adapters.merge import merge as merge_into
    from sakuga.adapters.spec import parse_adapters
    from sakuga.commands.lora import open_transformer

    specs = parse_adapters(adapters)
    print(merge_into(open_transformer(model), specs, out, partial=partial, force=force))


def extract(
    base: Annotated[str, typer.Argument(help="A model, or a transformer's file or folder.")],
    tuned: Annotated[str, typer.Argument(help="The same, after it was trained further.")],
    out: Annotated[Path, typer.Option(help="The folder to write, as PEFT does.")],
    rank: Annotated[int, typer.Option(min=1, help="Rank of the LoRA.", show_default=True)] = 32,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")] = "auto",
    force: Force = False,
) -> None:
    """Write the difference of two transformers as a LoRA, and say how near it comes."""
    from sakuga.adapters.extract import extract as extract_difference
    from sakuga.commands.lora import open_transformer
    from sakuga.memory.device import choose_device

    found = extract_difference(
        open_transformer(base), open_transformer(tuned), out, rank,
        device=choose_device(device), force=force,
    )  # fmt: skip
    print(found)
