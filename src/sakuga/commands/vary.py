"""The `vary` command: pictures that are nearly another one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer

from sakuga.api.engine_spec import EngineSpec
from sakuga.api.request import Request
from sakuga.commands.draw import draw_asked
from sakuga.commands.flags import AsJson, Given, Without, flags
from sakuga.commands.output import Output
from sakuga.files.saving import KINDS, PNG

USUAL: Mapping[str, Any] = {"variation": 0.2, "number": 4}  # when nobody says


@flags
def vary(
    picture: Annotated[Path, typer.Argument(help="A picture that says how it was drawn.")],
    *,
    engine: Annotated[EngineSpec, Without(("lora", "wait"))],
    request: Annotated[Mapping[str, Any], Given(Request, without=("prompt", "sent", "to_seed"))],
    output: Annotated[Output, Without(("source", "text", "memory_report"))],
    strict: Annotated[bool, typer.Option("--strict", help="Stop on errors and warnings.")] = False,
    no_cache: Annotated[bool, typer.Option("--no-cache", help="Keep nothing.")] = False,
    as_json: AsJson = False,
) -> None:
    """Draw pictures that are nearly another one.

    Its noise is turned a little: by 0.2, and 4 of them, unless told otherwise.
    """
    suffix = KINDS[output.format or PNG.name].suffix
    out = output.out or f"{picture.stem}-varied{suffix}"
    output = replace(output, source=picture, out=out)
    asked = {**USUAL, **request}
    draw_asked(None, engine, asked, output, strict=strict, no_cache=no_cache, as_json=as_json)
