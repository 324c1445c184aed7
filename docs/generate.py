"""Writes the parts of docs/ that the code already knows: flags, recipes, lint rules.

A page marks such a part with `<!-- begin: NAME -->` and `<!-- end: NAME -->`; what stands
between is rewritten. `--check` writes nothing and exits 1 if a page is stale.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import MISSING, fields
from pathlib import Path

import typer.main
from click import Argument, Command, Group

from sakuga.cli import app
from sakuga.model.spec import PRESETS
from sakuga.prompt.lint import RULES
from sakuga.request import RECIPES, Request, option_of

DOCS = Path(__file__).parent


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = ([cell.replace("|", "\\|") for cell in row] for row in (head, *rows))
    first, *rest = ("| " + " | ".join(line) + " |" for line in lines)
    return "\n".join((first, "|---" * len(head) + "|", *rest))


def options() -> str:
    """Every field of Request: default, what it accepts, help."""
    rows = []
    for declared in fields(Request):
        rule = option_of(declared)
        default = declared.default if declared.default is not MISSING else "required"
        if default is None:
            default = "the model's" if rule.otherwise is None else rule.otherwise
        accepts = ", ".join(f"`{choice}`" for choice in rule.choices) or rule.range
        shown = f"`{default}`" if default not in ("the model's", "required") else default
        rows.append((f"`{declared.name}`", shown if default != "" else "empty", accepts, rule.help))
    return table(("field", "default", "accepts", "meaning"), rows)


def recipes() -> str:
    """The settings known from elsewhere."""
    rows = []
    for name, recipe in RECIPES.items():
        sets = ", ".join(f"{key} {value}" for key, value in recipe.values.items())
        rows.append((f"`{name}`", sets, recipe.source))
    return table(("recipe", "sets", "from"), rows)


def models() -> str:
    """What each preset draws when nobody says otherwise."""
    rows = []
    for name, spec in PRESETS.items():
        habit = spec.drawing
        sides = f"{habit.min_side}-{habit.max_side}, multiples of {habit.size_multiple}"
        rows.append((
            f"`{name}`", f"{habit.width}×{habit.height}", sides, f"{habit.max_pixels:,}",
            f"{habit.steps} {habit.solver}", f"{habit.guidance:g}", f"{habit.shift:g}",
        ))  # fmt: skip
    return table(("model", "size", "sides", "most pixels", "steps", "guidance", "shift"), rows)


def rules() -> str:
    """What the linter looks for."""
    return table(
        ("rule", "severity", "what it finds"),
        ((f"`{rule.id}`", rule.severity, rule.summary) for rule in RULES),
    )


def commands() -> str:
    """Every command with its arguments and flags."""
    root = typer.main.get_command(app)
    return "\n\n".join(_command(name, command) for name, command in _leaves("sakuga", root))


def _leaves(path: str, command: Command) -> Iterator[tuple[str, Command]]:
    if not isinstance(command, Group):
        yield path, command
        return
    for name, inner in command.commands.items():
        yield from _leaves(f"{path} {name}", inner)


def _command(name: str, command: Command) -> str:
    context = command.make_context(name, [], resilient_parsing=True)
    rows = []
    for parameter in command.params:
        if isinstance(parameter, Argument):
            called = f"`{parameter.make_metavar(context)}`"
        else:
            called = ", ".join(f"`{flag}`" for flag in parameter.opts)
        rows.append((called, getattr(parameter, "help", None) or ""))
    about = (command.help or "").split("\n\n")[0].replace("\n", " ")
    return f"### {name}\n\n{about}\n\n" + table(("argument", "meaning"), rows)


BLOCKS: dict[str, Callable[[], str]] = {
    block.__name__: block for block in (options, recipes, models, rules, commands)
}


def rewritten(page: str) -> str:
    """`page` with every marked part made anew; an unknown name raises KeyError."""
    return re.sub(
        r"(<!-- begin: (\w+) -->\n).*?(<!-- end: \2 -->)",
        lambda part: f"{part[1]}{BLOCKS[part[2]]()}\n{part[3]}",
        page,
        flags=re.DOTALL,
    )


def main() -> int:
    """Rewrite or check every page."""
    stale = []
    for path in sorted(DOCS.glob("*.md")):
        page = path.read_text(encoding="utf-8")
        fresh = rewritten(page)
        if fresh == page:
            continue
        stale.append(path.name)
        if "--check" not in sys.argv:
            path.write_text(fresh, encoding="utf-8")
    if stale and "--check" in sys.argv:
        print("stale, run scripts/docs:", ", ".join(stale))
        return 1
    print("written:" if stale else "all pages are fresh", ", ".join(stale))
    return 0


if __name__ == "__main__":
    sys.exit(main())
