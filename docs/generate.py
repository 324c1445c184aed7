"""Writes the parts of docs/ that the code already knows: the tree, flags, recipes, rules, errors.

A page marks such a part with `<!-- begin: NAME -->` and `<!-- end: NAME -->`; what stands
between is rewritten. `--check` writes nothing and exits 1 if a page is stale.
"""

from __future__ import annotations

import ast
import json
import re
import sys
import tomllib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import MISSING, Field, fields
from html import escape
from pathlib import Path
from typing import Any

import typer.main
from provoked import examples
from typer.core import TyperArgument, TyperCommand, TyperGroup

from sakuga.adapters.kinds import KINDS
from sakuga.api.options import json_schema, option_of
from sakuga.api.request import RECIPES, Request
from sakuga.checkpoint.families.detect import OTHER_KINDS, ROLES, WHOLE_ROLES
from sakuga.checkpoint.families.layout import WRAPPERS
from sakuga.checkpoint.families.tables import LAYOUTS
from sakuga.chibi.binding import page as binding
from sakuga.commands.cli import app
from sakuga.errors import SakugaError
from sakuga.model.spec import PRESETS, DrawingSpec
from sakuga.prompt.lint import lint
from sakuga.prompt.rules import RULES, Form
from sakuga.weights.formats import UNREAD as DTYPES_UNREAD
from sakuga.weights.gguf import TYPES
from sakuga.weights.gguf import UNREAD as TYPES_UNREAD
from sakuga.weights.schemes import FORMATS_UNREAD, HELD, SCHEMES
from sakuga.weights.schemes import UNREAD as NAMED

DOCS = Path(__file__).parent
PACKAGE = DOCS.parent / "src" / "sakuga"
SETTINGS = tomllib.loads((DOCS.parent / "pyproject.toml").read_text(encoding="utf-8"))

# One prompt for each rule, so that the table of rules is what the linter says, not what someone
# remembers of it.
EXAMPLES = {
    "declaration": "<!DOCTYPE a>",
    "too-deep": "<character_1><info><hair>long_hair</hair></info></character_1>",
    "slot-contradicted": "<character_1><appearance>blue_eyes, red_eyes</appearance></character_1>",
    "not-well-formed": "<character_1><n>miku</character_1>",
    "too-many-characters": "".join(f"<character_{i}><n>a</n></character_{i}>" for i in range(1, 6)),
    "slot-blurred": "<character_1><appearance>aqua_eyes, blue_eyes</appearance></character_1>",
    "duplicate-number": "<character_1><n>a</n></character_1><character_1><n>b</n></character_1>",
    "count-mismatch": (
        "<character_1><n>a</n></character_1><general_tags><count>2girls</count></general_tags>"
    ),
    "too-long": " ".join(["word"] * 600),
    "length-estimated": " ".join(["word"] * 200),
    "too-large": "a" * (64 * 1024 + 1),
    "around-prompt": "Here is your prompt: <character_1><n>miku</n></character_1>",
    "outside-text": "A girl walks at the beach. <character_1><n>miku</n></character_1>",
    "wrapper": "<document><character_1><n>miku</n></character_1></document>",
    "escaped-tags": "&lt;character_1&gt;&lt;n&gt;miku&lt;/n&gt;&lt;/character_1&gt;",
    "zero-width": "<character_1><n>mi\u200bku</n></character_1>",
    "inner-caption": "<character_1><n>miku</n><caption>A girl.</caption></character_1>",
    "negative": "<character_1><n>miku</n></character_1><negative>lowres</negative>",
    "settings-text": "1girl Negative prompt: lowres Steps: 28, Sampler: Euler a, Seed: 7",
    "lora-tag": "1girl, <lora:style:0.8>",
    "other-syntax": "1girl, {blue|red}_eyes",
    "unnumbered-character": "<character><n>a</n></character>",
    "empty-element": "<character_1><n></n></character_1>",
    "empty-tag": "<character_1><appearance>blue_hair, , smile</appearance></character_1>",
    "repeated-field": "<character_1><action>run</action><pose>jump</pose></character_1>",
    "renamed-field": "<character_1><pose>standing</pose></character_1>",
    "unknown-field": "<character_1><mood>calm</mood></character_1>",
    "unknown-block": "<scene><place>beach</place></scene>",
    "misplaced-field": "<character_1><lighting>rim_light</lighting></character_1>",
    "misplaced-tag": "<character_1><appearance>blue_hair, red_dress</appearance></character_1>",
    "attribute": '<character_1 n="miku"><gender>1girl</gender></character_1>',
    "loose-text": "<character_1>standing<n>miku</n></character_1>",
    "bare-markup": "<character_1><expression>&gt;_< & blush</expression></character_1>",
    "own-system-prompt": (
        "You are an assistant designed to generate high-quality anime images. <Prompt Start> 1girl"
    ),
    "unheeded-weight": "<character_1><appearance>(blue_hair:1.2)</appearance></character_1>",
    "weighted-tag": "<character_1><appearance>[blue_hair]</appearance></character_1>",
    "flat-prompt": "1girl, blue_hair",
    "unsure-owner": "2girls, school_uniform",
    "unsure-tag": "1girl, frimbly",
    "other-name": "<character_1><appearance>twin_tails</appearance></character_1>",
    "unknown-word": "1girl, blue_hair, smiling",
}
FORMS: Mapping[str, Form] = {
    "flat-prompt": "better as xml", "unsure-owner": "as xml", "unsure-tag": "as xml",
}  # fmt: skip
WORDS = frozenset({"1girl", "blue_hair", "smile"})


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
        choices = tuple(RECIPES) if declared.name == "recipe" else rule.choices
        accepts = ", ".join(f"`{choice}`" for choice in choices) or rule.range
        rows.append((f"`{declared.name}`", _default(declared), accepts, rule.help))
    return table(("field", "default", "accepts", "meaning"), rows)


def _default(declared: Field[object]) -> str:
    """What a field of Request is when nobody says."""
    default = declared.default
    if default is None:
        default = option_of(declared).otherwise
    if default is MISSING:
        return "required"
    if default in ("", ()):
        return "empty"
    if default is not None:
        return f"`{default}`"
    habits = {habit.name.removesuffix("_xml") for habit in fields(DrawingSpec)}
    return "the model's" if declared.name in habits else "none"


def recipes() -> str:
    """The settings known from elsewhere."""
    rows = []
    for name, recipe in RECIPES.items():
        sets = ", ".join(f"{key} {value}" for key, value in recipe.values.items())
        rows.append((f"`{name}`", sets, recipe.source))
    return table(("recipe", "sets", "from"), rows)


def adapters() -> str:
    """Every kind of adapter that is read, and those that are known and refused by name."""
    ends: dict[str, list[str]] = {}
    for end, role in (*ROLES.items(), *WHOLE_ROLES.items()):
        ends.setdefault(role, []).append(end)
    rows = []
    for kind in KINDS:
        roles = sorted(frozenset().union(*kind.sets))
        names = ", ".join(f"`{end}`" for role in roles for end in ends[role][:2])
        rows.append((kind.title, f"`{kind.formula}`", kind.trainers, names))
    named = ", ".join(dict.fromkeys(OTHER_KINDS.values()))
    head = ("kind", "becomes, at strength s", "written by", "names of its tensors end in")
    return f"{table(head, rows)}\n\nRefused by their names: {named}."


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


def kin() -> str:
    """The presets without pooled text: the words they are known by, and what Gemma reads first."""
    rows = []
    for one in PRESETS.values():
        if one.jina is None:
            said = (one.drawing.system_text, one.drawing.system_negative or "")
            words = ", ".join(f"`{word}`" for word in one.known_as)
            read = (f"`{text.strip()}`" if text else "nothing" for text in said)
            rows.append((words, f"`{one.name}`", *read))
    return table(("word", "preset", "before a prompt", "before a negative"), rows)


def rules() -> str:
    """Every rule of the linter, with a prompt that breaks it and what the linter says."""
    rows = []
    for rule, severity in RULES.items():
        prompt = EXAMPLES[rule]
        vocabulary = WORDS if rule == "unknown-word" else None
        form = FORMS.get(rule, "as given")
        found = lint(prompt, vocabulary=vocabulary, form=form)
        said = next(one for one in found if one.rule == rule)
        shown = f"`{prompt}`" if len(prompt) < 100 else f"{len(prompt):,} characters"
        words = escape(f"{said.reason}. {said.fix}", quote=False)
        rows.append((f"`{rule}`", severity, shown, words))
    return table(("rule", "severity", "for example", "what the linter says"), rows)


def layouts() -> str:
    """Every layout that is read, by what it is recognised, and what stands before its names."""
    rows = []
    for layout in LAYOUTS:
        wrapped = {first + prefix for first in WRAPPERS for prefix in layout.prefixes}
        bare = [prefix for prefix in layout.prefixes if prefix not in wrapped]
        prefixes = ", ".join(f"`{prefix}`" if prefix else "none" for prefix in bare)
        marks = ", ".join(f"`{mark}`" for mark in layout.marks)
        rows.append((layout.name, layout.component, marks, prefixes))
    return table(("layout", "component", "recognised by", "prefixes"), rows)


def schemes() -> str:
    """Every way of other programs to keep a weight that is read."""
    rows = []
    for each in SCHEMES:
        held = HELD.get(each.rule, "it unfolds")
        rows.append((f"`{each.name}`", each.program, each.told, each.value, held))
    return table(("kind", "written by", "told by", "a weight is", "kept"), rows)


def unread() -> str:
    """Every way that is known by name and not read."""
    formats = (
        (f"`comfy_quant` of format `{name}`", "ComfyUI's " + name) for name in FORMATS_UNREAD
    )
    marks = ((f"`{mark}`", what.rstrip(",")) for mark, what in NAMED.items())
    types = (("a GGUF type", ", ".join(TYPES_UNREAD.values())),)
    dtypes = (("a safetensors dtype", ", ".join(DTYPES_UNREAD)),)
    return table(("told by", "what it is"), [*formats, *marks, *types, *dtypes])


def blocks() -> str:
    """Every type of GGUF's tensors that is read."""
    return ", ".join(f"`{name}`" for name in TYPES.values())


def commands() -> str:
    """Every command with its arguments and flags."""
    root = typer.main.get_command(app)
    return "\n\n".join(_command(name, command) for name, command in _leaves("sakuga", root))


def _leaves(path: str, command: TyperCommand | TyperGroup) -> Iterator[tuple[str, TyperCommand]]:
    if not isinstance(command, TyperGroup):
        yield path, command
        return
    context = command.make_context(path, [], resilient_parsing=True)
    for name in command.list_commands(context):
        yield from _leaves(f"{path} {name}", command.get_command(context, name))


def _command(name: str, command: TyperCommand) -> str:
    rows = []
    for parameter in command.params:
        if isinstance(parameter, TyperArgument):
            called = f"`{parameter.metavar or str(parameter.name).upper()}`"
        else:
            called = ", ".join(f"`{flag}`" for flag in parameter.opts)
        rows.append((called, getattr(parameter, "help", None) or ""))
    about = (command.help or "").split("\n\n")[0].replace("\n", " ")
    return f"### {name}\n\n{about}\n\n" + table(("argument", "meaning"), rows)


def errors() -> str:
    """Every error of the tree with an example; one that is never raised as itself has none."""
    found = examples()
    rows = []
    for depth, kind in _tree(SakugaError):
        example, remedy = "only as one of those below it", "what they say"
        if kind in found:
            said = found[kind]
            example = f"{said.rule}; got {said.got.removesuffix('.')}."
            remedy = said.fix
        meaning = (kind.__doc__ or "").split("\n")[0]
        codes = (f"`{kind.code}`", str(kind.exit_code), str(kind.http_status))
        name = f"{'· ' * depth}`{kind.__name__}`"
        words = (escape(text, quote=False) for text in (meaning, example, remedy))
        rows.append((name, *codes, *words))
    return table(("error", "code", "exit", "HTTP", "meaning", "for example", "what to do"), rows)


def tree() -> str:
    """Every file of the package with the first line of its docstring, folders first told of."""
    lines = ["src/sakuga/"]
    for name, about in _rooms():
        depth = name.rstrip("/").count("/") + 1
        lines.append(
            f"{'  ' * depth}{name.rstrip('/').rpartition('/')[2]}{'/' * name.endswith('/')}".ljust(
                22
            )
            + f" {about}"
        )
    return "```\n" + "\n".join(lines) + "\n```"


def layers() -> str:
    """The folders, the highest first: what each is, and whether torch may be imported there."""
    contracts = SETTINGS["tool"]["importlinter"]["contracts"]
    order = next(one["layers"] for one in contracts if one["type"] == "layers")
    free = next(
        one["source_modules"] for one in contracts if "torch" in one.get("forbidden_modules", ())
    )
    about = {name.rstrip("/").removesuffix(".py"): text for name, text in _rooms()}
    heavy = {
        path.relative_to(PACKAGE).parts[0]
        for path in PACKAGE.rglob("*.py")
        if re.search("^(import|from) torch", path.read_text(encoding="utf-8"), re.MULTILINE)
    }
    rows = []
    for name in order:
        torch = "never" if f"sakuga.{name}" in free else "yes" if name in heavy else "no"
        rows.append((f"`{name}`", about.get(name, "`python -m sakuga`"), torch))
    return table(("layer", "what it is", "torch"), rows)


def _rooms() -> Iterator[tuple[str, str]]:
    """Files and folders ("weights/", "weights/store.py") and what they say of themselves."""
    for path in sorted(PACKAGE.rglob("*.py"), key=lambda path: (path.parent, path.name)):
        name = str(path.relative_to(PACKAGE))
        about = (ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or "").split("\n")
        if path.name == "__init__.py":
            name = name.removesuffix("__init__.py")
        if name and path.name != "__main__.py":
            yield name, about[0].removesuffix(".")


def _measured() -> Mapping[str, Any]:
    """The last run of `sakuga bench binding` that was kept."""
    return json.loads((DOCS / "binding.json").read_text(encoding="utf-8"))


def binding_run() -> str:
    """Of which weights, where, and how many."""
    run = _measured()
    return (
        f"{run['pictures']} pictures a row, {len(run['rows'])} rows, drawn on: {run['device']}; "
        f"weights `{run['weights']}`."
    )


def binding_said() -> str:
    """What is said is drawn."""
    return binding.table(_measured()["rows"], "said")


def binding_who() -> str:
    """Who has it."""
    return binding.table(_measured()["rows"], "who")


def binding_where() -> str:
    """Sizes and aspects."""
    return binding.table(_measured()["rows"], "where")


def binding_forms() -> str:
    """What structuring a text before it is encoded is worth."""
    return binding.differences(_measured()["rows"])


def binding_slots() -> str:
    """Each slot over all rows."""
    return binding.slots_table(_measured()["rows"])


def binding_trial() -> str:
    """What the form of prompts was worth to one small transformer; empty before it is measured."""
    kept = DOCS / "forms.json"
    if not kept.exists():
        return "Not measured yet."
    return binding.trial_table(json.loads(kept.read_text(encoding="utf-8")))


def _tree(kind: type[SakugaError], depth: int = 0) -> Iterator[tuple[int, type[SakugaError]]]:
    yield depth, kind
    for heir in kind.__subclasses__():
        yield from _tree(heir, depth + 1)


BLOCKS: dict[str, Callable[[], str]] = {
    block.__name__: block
    for block in (
        *(options, recipes, adapters, models, kin, rules, layouts, schemes, unread, blocks),
        *(commands, errors, tree, layers),
        *(
            binding_run,
            binding_said,
            binding_who,
            binding_where,
            binding_forms,
            binding_slots,
            binding_trial,
        ),
    )
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
    pages = {path: rewritten(path.read_text(encoding="utf-8")) for path in DOCS.glob("*.md")}
    pages[DOCS / "request.schema.json"] = json.dumps(json_schema(Request), indent=2) + "\n"
    for name, picture in binding.pictures_of(_measured()["rows"]).items():
        pages[DOCS / name] = picture
    for path, fresh in sorted(pages.items()):
        if path.is_file() and path.read_text(encoding="utf-8") == fresh:
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
