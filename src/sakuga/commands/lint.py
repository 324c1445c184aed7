"""The `lint` and `format` commands: what a prompt gets wrong, and how the encoders read it."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Annotated

import typer

from sakuga.api.engine_spec import EMBEDDED
from sakuga.checkpoint.catalog import lint_profile
from sakuga.commands.flags import AsJson
from sakuga.commands.prompts import Prompt, line_of, plain_finding, read_prompt
from sakuga.commands.streams import say
from sakuga.engine.linting import findings
from sakuga.files.atomic import write_atomically
from sakuga.prompt.canonical import canonical
from sakuga.prompt.document import read
from sakuga.prompt.lint import fix as mend

Prompts = Annotated[
    list[str], typer.Argument(metavar="PROMPT...", help="Texts, files, or - for standard input.")
]


def lint(
    prompts: Prompts,
    model: Annotated[
        str, typer.Option(help="chibi, newbie-3.5b, or the folder of a model.")
    ] = EMBEDDED,
    as_json: AsJson = False,
    fix: Annotated[
        bool, typer.Option("--fix", help="First apply the fixes that keep the meaning, in place.")
    ] = False,
    as_xml: Annotated[
        bool | None,
        typer.Option(
            "--as-xml/--no-as-xml",
            help="Say what is not sure of flat tags drawn as XML; by the model when left out.",
        ),
    ] = None,
) -> None:
    """Say what a prompt gets wrong, where, and how to mend it; exit 1 if it has errors."""
    profile = lint_profile(model)
    if as_xml is not None:
        profile = replace(profile, as_xml=as_xml)
    read = [_mended(one) if fix else one for one in map(read_prompt, prompts)]
    found = [(each.name, finding) for each in read for finding in findings(each.text, profile)]
    if as_json:
        rows = [{"file": name, **plain_finding(finding)} for name, finding in found]
        print(json.dumps(rows, indent=2))
    else:
        for name, finding in found:
            say(line_of(name, finding))
    if any(finding.severity == "error" for _, finding in found):
        raise typer.Exit(1)


def format_prompts(prompts: Prompts) -> None:
    """Print the canonical form of a prompt: what the encoders read."""
    for each in prompts:
        print(canonical(read(read_prompt(each).text)))


def _mended(prompt: Prompt) -> Prompt:
    """The prompt with its safe fixes, written back to its file, or to stdout without one."""
    mended, file = mend(prompt.text), prompt.file
    if file is None:
        print(mended, end="" if mended.endswith("\n") else "\n")
    elif mended != prompt.text:
        write_atomically(file, mended.encode(), replace=True)
    return replace(prompt, text=mended)
