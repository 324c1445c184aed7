"""The `lint` and `format` commands: what a prompt gets wrong, and how the encoders read it."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated

import typer

from sakuga.api.engine_spec import EMBEDDED
from sakuga.checkpoint.catalog import lint_profile
from sakuga.commands.flags import AsJson
from sakuga.commands.prompts import findings, line_of, plain_finding, read_text
from sakuga.files.atomic import write_atomically
from sakuga.prompt.canonical import canonical
from sakuga.prompt.document import read
from sakuga.prompt.lint import fix as mend

Files = Annotated[list[str], typer.Argument(metavar="FILE...", help="Prompts, or - for stdin.")]


def lint(
    files: Files,
    model: Annotated[
        str, typer.Option(help="chibi, newbie-3.5b, or the folder of a model.")
    ] = EMBEDDED,
    as_json: AsJson = False,
    fix: Annotated[
        bool, typer.Option("--fix", help="First apply the fixes that keep the meaning, in place.")
    ] = False,
) -> None:
    """Say what a prompt gets wrong, where, and how to mend it; exit 1 if it has errors."""
    profile = lint_profile(model)
    texts = [(name, _mended(name) if fix else read_text(name)) for name in files]
    found = [(name, finding) for name, text in texts for finding in findings(text, profile)]
    if as_json:
        rows = [{"file": name, **plain_finding(finding)} for name, finding in found]
        print(json.dumps(rows, indent=2))
    else:
        for name, finding in found:
            print(line_of(name, finding))
    if any(finding.severity == "error" for _, finding in found):
        raise typer.Exit(1)


def format_prompts(files: Files) -> None:
    """Print the canonical form of a prompt: what the encoders read."""
    for name in files:
        print(canonical(read(read_text(name))))


def _mended(name: str) -> str:
    """The text with its safe fixes, written back to its file, or to stdout for -."""
    text = read_text(name)
    mended = mend(text)
    if name == "-":
        sys.stdout.write(mended)
    elif mended != text:
        write_atomically(Path(name), mended.encode(), replace=True)
    return mended
