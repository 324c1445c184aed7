"""The `convert-prompt` command: flat tags as XML, and XML as flat tags."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, Literal

import typer

from sakuga.api.engine_spec import EMBEDDED
from sakuga.checkpoint.catalog import lint_profile
from sakuga.commands.prompts import Prompt, line_of, read_prompt
from sakuga.commands.streams import say
from sakuga.engine.linting import findings
from sakuga.prompt.assign import UNSURE
from sakuga.prompt.canonical import canonical
from sakuga.prompt.document import read
from sakuga.prompt.flattened import Joint, flattened
from sakuga.prompt.structured import structured


def convert_prompt(
    prompts: Annotated[
        list[str],
        typer.Argument(metavar="PROMPT...", help="Texts, files, or - for standard input."),
    ],
    to: Annotated[
        Literal["xml", "flat"] | None, typer.Option(help="The form; the other one when left out.")
    ] = None,
    spaces: Annotated[
        bool, typer.Option("--spaces", help="Flat tags with spaces, not underscores.")
    ] = False,
    joint: Annotated[
        Joint,
        typer.Option(help="What parts characters in flat tags: commas, NovelAI's bars, or BREAK."),
    ] = "comma",
) -> None:
    """Write flat tags as XML, and XML as flat tags."""
    for each in map(read_prompt, prompts):
        document = read(each.text)
        if to == "flat" or (to is None and document.structured):
            print(flattened(document, spaces=spaces, joint=joint))
        else:
            print(canonical(structured(document).document))
            _tell(each)


def _tell(prompt: Prompt) -> None:
    """Say on standard error what is not sure of a flat prompt as XML."""
    for finding in findings(prompt.text, replace(lint_profile(EMBEDDED), as_xml=True)):
        if finding.rule in UNSURE:
            say(line_of(prompt.name, finding), err=True)
