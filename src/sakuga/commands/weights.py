"""The commands about files of weights: `fetch`, `inspect` and `convert`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from sakuga.api.codec import plain
from sakuga.commands.environment import local_model
from sakuga.commands.flags import AsJson, Force

State = Annotated[
    str | None, typer.Option(help="Which of several state dicts of a torch archive: model, ema ...")
]


def fetch(
    model: Annotated[str, typer.Argument(help="org/name or org/name@revision of a hub.")],
) -> None:
    """Download a model, or find it in the cache, and print its folder."""
    from sakuga.checkpoint.catalog import locate

    print(locate(local_model(model)))


def inspect(
    path: Annotated[Path, typer.Argument(help="A file of weights, or the folder of a model.")],
    dtype: Annotated[
        str, typer.Option(help="What floats would become: float32, bfloat16, float16 or keep.")
    ] = "keep",
    state: State = None,
    as_json: AsJson = False,
) -> None:
    """Say what a file holds, in which layout, and what would become of every tensor."""
    from sakuga.commands import inspect as command

    found = command.inspect(_place(path), dtype, state)
    lines = [line for one in found for line in command.describe_file(one)]
    print(command.as_json(found) if as_json else "\n".join(lines))
    if any(one.problem for one in found):
        raise typer.Exit(1)


def convert(
    source: Annotated[
        Path, typer.Argument(help="A model's folder, a component's or its file, or an adapter.")
    ],
    out: Annotated[Path, typer.Argument(help="A folder, or a .safetensors file.")],
    layout: Annotated[
        str | None,
        typer.Option(
            help="diffusers, original or single-file; all-in-one joins a model's components in "
            "one file; an adapter keeps its names."
        ),
    ] = None,
    *,
    dtype: Annotated[
        str,
        typer.Option(
            help="float32, bfloat16, float16 (not of Gemma); keep leaves floats as they are; "
            "fp8_scaled, comfy_float8 or comfy_int8 quantise the blocks as ComfyUI reads them."
        ),
    ] = "keep",
    force: Force = False,
    state: State = None,
    as_json: AsJson = False,
) -> None:
    """Write a model or one component in another layout or dtype, an adapter as safetensors."""
    from sakuga.commands import convert as command

    for written in command.convert(_place(source), out, layout, dtype, force=force, state=state):
        print(json.dumps(plain(written)) if as_json else str(written), flush=True)


def _place(path: Path) -> Path:
    """A path as given, or the folder of the model that ships, by its name."""
    from sakuga.api.engine_spec import EMBEDDED
    from sakuga.checkpoint.catalog import EMBEDDED_FOLDER

    return EMBEDDED_FOLDER if str(path) == EMBEDDED and not path.exists() else path
