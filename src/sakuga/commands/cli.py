"""The command line: parse, call, print.

`lint`, `format`, `show` and `--help` start in a blink: whatever is heavy is imported by the
command that needs it. The environment is read here and nowhere else.
"""

from __future__ import annotations

import io
import json
import os
import re
import sys
import time
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sakuga.api.codec import plain
from sakuga.api.request import RECIPES, Request, option_of, parse_size
from sakuga.checkpoint.catalog import (
    ELSEWHERE,
    EMBEDDED,
    EMBEDDED_FOLDER,
    LintProfile,
    Source,
    lint_profile,
)
from sakuga.errors import RequestError, SakugaError
from sakuga.files.shelf import cache_folder
from sakuga.printable import shown
from sakuga.prompt.document import MAX_BYTES

# What is meant as a path, there or not: ./a, ../a, /a/b, ~/a, a.xml.
PROMPT_FILE = re.compile(r"[^\s<>]+\.(xml|txt|json)|(\.{0,2}|~)/[^\s<>]*", re.IGNORECASE)

if TYPE_CHECKING:
    from sakuga.prompt.lint import Finding

app = typer.Typer(
    help="Draw anime pictures from XML-structured prompts.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
train_app = typer.Typer(help="Train a model.", no_args_is_help=True, rich_markup_mode=None)
app.add_typer(train_app, name="train")
lora_app = typer.Typer(
    help="Adapters: LoRA, LoKr and trained norms.", no_args_is_help=True, rich_markup_mode=None
)
app.add_typer(lora_app, name="lora")


def main() -> None:
    """Run the command line; the exit code says how it ended."""
    # Threads that spin while they wait for each other make a busy machine several times slower.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    # Segments that grow leave few holes, and for those a budget has room.
    os.environ.setdefault("PYTORCH_CUDA_ALLOC_CONF", "expandable_segments:True")
    # A prompt may be in any script; a console or a pipe in another encoding must not end it.
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    try:
        if any("\0" in argument for argument in sys.argv):  # as only another program could
            raise RequestError("arguments are text", "a NUL in one", "Leave it out.")
        app()
    except SakugaError as error:
        print(f"sakuga: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        sys.exit(130)


def flag(name: str, *names: str) -> Any:
    """A flag made from the field `name` of Request: its help, range and choices."""
    (declared,) = (declared for declared in fields(Request) if declared.name == name)
    rule = option_of(declared)
    choices = tuple(RECIPES) if name == "recipe" else rule.choices
    limits = rule.range or ", ".join(choices)
    text = f"{rule.help} [{limits}]" if limits else rule.help
    return typer.Option(*names, help=text, show_default=False)


def part(name: str) -> Any:
    """A flag that takes one component from elsewhere."""
    return typer.Option(help=f"The {name} from elsewhere: its folder or file.", show_default=False)


PARTS = {"transformer": "transformer", "gemma": "text_encoder", "jina": "text_encoder_2",
         "vae": "vae"}  # fmt: skip
Model = Annotated[str, typer.Option(help="chibi, newbie-3.5b, or the folder of a model.")]
Weights = Annotated[
    str, typer.Option(help="How weights lie on the card: auto, or a storage format.")
]
AllowLossy = Annotated[
    bool, typer.Option("--allow-lossy", help="Let auto round weights to 8 or 4 bits.")
]
KeepResident = Annotated[
    bool, typer.Option("--keep-resident", help="Keep all on the card if there is room.")
]
Partial = Annotated[
    bool, typer.Option("--lora-partial", help="Leave out what matches nothing of the model.")
]
State = Annotated[
    str | None, typer.Option(help="Which of several state dicts of a torch archive: model, ema ...")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.", show_default=False)]


def _version(asked: bool) -> None:
    if asked:
        from importlib.metadata import version

        print(f"sakuga {version('sakuga')}")
        raise typer.Exit


@app.callback()
def root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Draw anime pictures from XML-structured prompts."""


@app.command()
def draw(
    ctx: typer.Context,
    prompt: Annotated[
        str | None, typer.Argument(help="Text, the path of a file, or - for standard input.")
    ] = None,
    *,
    model: Annotated[
        str | None,
        typer.Option(
            help="chibi, the folder of a model, or org/name of a hub.", show_default=EMBEDDED
        ),
    ] = None,
    transformer: Annotated[Path | None, part("transformer")] = None,
    gemma: Annotated[Path | None, part("text encoder Gemma")] = None,
    jina: Annotated[Path | None, part("text encoder Jina")] = None,
    vae: Annotated[Path | None, part("autoencoder")] = None,
    negative: Annotated[str | None, flag("negative")] = None,
    seed: Annotated[int | None, flag("seed")] = None,
    size: Annotated[
        str | None, typer.Option(help="WIDTHxHEIGHT, or one number for a square.")
    ] = None,
    width: Annotated[int | None, flag("width")] = None,
    height: Annotated[int | None, flag("height")] = None,
    number: Annotated[int | None, flag("number", "--number", "-n")] = None,
    recipe: Annotated[str | None, flag("recipe")] = None,
    steps: Annotated[int | None, flag("steps")] = None,
    guidance: Annotated[float | None, flag("guidance")] = None,
    solver: Annotated[str | None, flag("solver")] = None,
    shift: Annotated[float | None, flag("shift")] = None,
    schedule: Annotated[str | None, flag("schedule")] = None,
    renorm: Annotated[float | None, flag("renorm")] = None,
    truncation: Annotated[float | None, flag("truncation")] = None,
    uncond: Annotated[str | None, flag("uncond")] = None,
    system: Annotated[str | None, flag("system")] = None,
    verbatim: Annotated[bool | None, flag("verbatim", "--verbatim/--no-verbatim")] = None,
    text_mode: Annotated[str | None, flag("text_mode")] = None,
    max_tokens: Annotated[int | None, flag("max_tokens")] = None,
    out: Annotated[Path | None, typer.Option(help="Where to save; sakuga-SEED.png here.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Overwrite what is there.")] = False,
    source: Annotated[
        Path | None, typer.Option("--from", help="Draw a picture again, as its receipt says.")
    ] = None,
    allow_other_weights: Annotated[
        bool, typer.Option("--allow-other-weights", help="Let --from use another model.")
    ] = False,
    lora: Annotated[
        list[str] | None,
        typer.Option(
            metavar="ADAPTER",
            help="FILE[:STRENGTH][:alpha=NUMBER][:BLOCKS=FACTOR]...; may be repeated.",
        ),
    ] = None,
    lora_partial: Partial = False,
    strict: Annotated[bool, typer.Option("--strict", help="Stop on errors of lint.")] = False,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")] = "auto",
    dtype: Annotated[str, typer.Option(help="auto, float32, bfloat16 or float16.")] = "auto",
    vram: Annotated[
        str,
        typer.Option(
            help="What may be reserved: 8GB, 7.5GiB; auto is what is free on a card, "
            "and no limit on a CPU, which with one simulates a card."
        ),
    ] = "auto",
    weights: Weights = "auto",
    allow_lossy: AllowLossy = False,
    keep_resident: KeepResident = False,
    pinned: Annotated[
        str, typer.Option(help="Host memory that may be pinned; auto is half of what is there.")
    ] = "auto",
    memory_report: Annotated[
        Path | None, typer.Option(help="Write memory over time here, as a plot and a table.")
    ] = None,
    cache: Annotated[
        Path | None,
        typer.Option(help="Keeps embeddings and digests between runs; the user's cache folder."),
    ] = None,
    no_cache: Annotated[bool, typer.Option("--no-cache", help="Keep nothing.")] = False,
    as_json: AsJson = False,
) -> None:
    """Draw pictures of a prompt, or one picture again."""
    started = time.perf_counter()
    try:
        asked, origin = _asked(ctx, prompt, size), _origin(ctx.params)
        if prompt is not None:
            words = lint_profile(origin.model or next(iter(ELSEWHERE)))
            _show_findings(prompt, asked["prompt"], words, strict=strict)
        elif source is None:
            fix = "Write it, or name a --from file."
            raise RequestError("a drawing needs a prompt", "none", fix)
        # Some versions of Typer keep paths in ctx.params as text.
        paths = {"out": out, "source": source, "memory_report": memory_report}
        paths["cache"] = None if no_cache else cache or cache_folder(os.environ, sys.platform)
        _draw(ctx.params | paths | {"model": origin}, asked, started)
    except SakugaError as error:
        if as_json:
            print(json.dumps({"event": "failed", "code": error.code, "message": str(error)}))
        raise


def _origin(given: Mapping[str, Any]) -> Source:
    """Where the weights come from; with all four parts named there is no other model."""
    named = {name: given[flag] for flag, name in PARTS.items() if given[flag] is not None}
    parts = {name: Path(_local(str(place))) for name, place in named.items()}
    model = given["model"] or (EMBEDDED if len(parts) < len(PARTS) else None)
    lora = tuple(given["lora"] or ())
    return Source(model and _local(model), parts, lora, given["lora_partial"])


def _draw(given: Mapping[str, Any], asked: dict[str, Any], started: float) -> None:
    """Load what drawing needs, and draw."""
    from sakuga.commands.draw import Job
    from sakuga.commands.draw import draw as draw_pictures
    from sakuga.memory.plan import Budget

    budget = Budget(**{declared.name: given[declared.name] for declared in fields(Budget)})
    flags = {
        declared.name: given[declared.name] for declared in fields(Job) if declared.name in given
    }
    faults = os.environ.get("SAKUGA_FAULTS", "")
    job = Job(**flags, budget=budget, started=started, faults=faults)
    draw_pictures(asked, job)


def _asked(ctx: typer.Context, prompt: str | None, size: str | None) -> dict[str, Any]:
    """The fields of Request that were given, by name."""
    names = [declared.name for declared in fields(Request)]
    asked = {name: ctx.params[name] for name in names if ctx.params[name] is not None}
    if prompt is not None:
        asked["prompt"] = read_prompt(prompt)
    if size is not None:
        found = parse_size(size)
        if not found or {"width", "height"} & set(asked):
            got = f"{size!r} beside --width or --height" if found else repr(size)
            raise RequestError("--size is WIDTHxHEIGHT, alone", got, "Write --size 256x320.")
        asked |= dict(zip(("width", "height"), found, strict=True))
    return asked


def read_prompt(argument: str) -> str:
    """The prompt that an argument of `draw` names: text, an existing file, or - for stdin."""
    if argument == "-" or _is_file(argument):
        return _read(argument)
    if PROMPT_FILE.fullmatch(argument):
        raise RequestError(
            "a prompt that looks like a path must be a file", repr(argument), "Check the path."
        )
    return argument


def _is_file(argument: str) -> bool:
    try:
        return Path(argument).is_file()
    except (OSError, ValueError):  # too long for a path, or with a NUL: it is text
        return False


def _read(name: str) -> str:
    """The text of a file or of - (stdin), read no further than a prompt may go."""
    enough = MAX_BYTES + 4  # still too long when the last character is cut off
    try:
        if name == "-":
            data = sys.stdin.buffer.read(enough)
        else:
            with open(name, "rb") as file:
                data = file.read(enough)
        errors = "ignore" if len(data) == enough else "strict"
        return data.decode("utf-8-sig", errors)
    except UnicodeDecodeError as error:
        raise RequestError(
            "a prompt must be UTF-8 text", f"{name}: byte {error.start} is none", "Convert it."
        ) from None
    except OSError as error:
        raise RequestError(
            "a prompt must be readable", f"{name}: {error.strerror}", "Check the path."
        ) from None


@app.command("lint")
def lint_command(
    files: Annotated[list[str], typer.Argument(metavar="FILE...", help="Prompts, or - for stdin.")],
    model: Model = EMBEDDED,
    as_json: AsJson = False,
    fix: Annotated[
        bool, typer.Option("--fix", help="First apply the fixes that keep the meaning, in place.")
    ] = False,
) -> None:
    """Say what a prompt gets wrong, where, and how to mend it; exit 1 if it has errors."""
    words = lint_profile(model)
    texts = [(name, _fixed(name, _read(name)) if fix else _read(name)) for name in files]
    found = [(name, finding) for name, text in texts for finding in _findings(text, words)]
    if as_json:
        print(json.dumps([{"file": name, **_plain(finding)} for name, finding in found], indent=2))
    else:
        for name, finding in found:
            print(_line(name, finding))
    if any(finding.severity == "error" for _, finding in found):
        raise typer.Exit(1)


@app.command("format")
def format_command(
    files: Annotated[list[str], typer.Argument(metavar="FILE...", help="Prompts, or - for stdin.")],
) -> None:
    """Print the canonical form of a prompt: what the encoders read."""
    from sakuga.prompt.canonical import canonical
    from sakuga.prompt.document import read

    for name in files:
        print(canonical(read(_read(name))))


@app.command()
def show(
    picture: Annotated[Path, typer.Argument(help="A PNG that sakuga has written.")],
    as_json: AsJson = False,
) -> None:
    """Print the receipt of a picture: how it was made."""
    from sakuga.api.infotext import RECEIPT_KEY, describe, receipt_from
    from sakuga.files.png import read_texts

    texts = read_texts(picture)
    receipt = receipt_from(texts, picture.name)
    if as_json:
        print(texts[RECEIPT_KEY])
        return
    rows = list(describe(receipt))
    width = max(len(label) for label, _ in rows)
    for label, text in rows:
        # Only the first line of a text has the label; the others stand below it.
        lines = map(shown, text.rstrip().split("\n"))
        print(f"{label:>{width}}  " + f"\n{'':{width}}  ".join(lines))


@app.command("fetch")
def fetch_command(
    model: Annotated[str, typer.Argument(help="org/name or org/name@revision of a hub.")],
) -> None:
    """Download a model, or find it in the cache, and print its folder."""
    from sakuga.checkpoint.catalog import locate

    print(locate(_local(model)))


@app.command("doctor")
def doctor_command(
    model: Annotated[
        str, typer.Argument(help="chibi, the folder of a model, or org/name of a hub.")
    ] = EMBEDDED,
    *,
    compare: Annotated[
        bool, typer.Option("--hash", help="Compare files with the digests they should have.")
    ] = False,
    scan: Annotated[
        bool, typer.Option("--scan", help="Look at every number of the weights, not a sample.")
    ] = False,
    draw: Annotated[
        bool, typer.Option("--draw/--no-draw", help="End with a drawing of one step.")
    ] = True,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")] = "auto",
    dtype: Annotated[str, typer.Option(help="auto, float32, bfloat16 or float16.")] = "auto",
    as_json: AsJson = False,
) -> None:
    """Say whether this computer and a model are fit to draw; exit 1 if anything is red."""
    from sakuga.checkpoint.catalog import locate
    from sakuga.commands.doctor.examine import Visit, examine
    from sakuga.commands.doctor.report import tell

    visit = Visit(model, device, dtype, hash=compare, scan=scan, draw=draw)
    findings = examine(visit, find=lambda name: locate(_local(name)))
    colour = False if os.environ.get("NO_COLOR") else None
    if not tell(findings, as_json=as_json, colour=colour):
        raise typer.Exit(1)


@app.command("plan")
def plan_command(
    ctx: typer.Context,
    *,
    model: Annotated[
        str | None, typer.Option(help="A model by name or folder; newbie-3.5b when left out.")
    ] = None,
    preset: Annotated[
        str | None, typer.Option(help="A model by its shape alone, without its files.")
    ] = None,
    vram: Annotated[
        str | None, typer.Option(help="The budget: 8GB, 7.5GiB; the card's when left out.")
    ] = None,
    size: Annotated[
        str | None, typer.Option(help="WIDTHxHEIGHT, or one number for a square.")
    ] = None,
    batch: Annotated[int, typer.Option(help="How many pictures.", show_default=True)] = 1,
    steps: Annotated[int | None, flag("steps")] = None,
    guidance: Annotated[float | None, flag("guidance")] = None,
    prompt_tokens: Annotated[
        int | None, typer.Option(min=1, help="Length of the prompt; the trained one otherwise.")
    ] = None,
    dtype: Annotated[str, typer.Option(help="auto, float32, bfloat16 or float16.")] = "auto",
    weights: Weights = "auto",
    card: Annotated[
        str | None,
        typer.Option(help="h200, h100, 4090, 4060ti, 3060, cpu; the one here, else 4060ti."),
    ] = None,
    allow_lossy: AllowLossy = False,
    keep_resident: KeepResident = False,
    pinned: Annotated[
        str | None, typer.Option(help="Host memory that may be pinned; as wanted otherwise.")
    ] = None,
    table: Annotated[
        bool, typer.Option("--table", help="Sizes and batches: what fits the budget.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Say how a drawing would fit a card: by which levers, how much memory, how long."""
    from sakuga.commands.plan import Question, answer, answer_table, failed, understand
    from sakuga.errors import BudgetTooSmall

    asked = understand(Question(**{f.name: ctx.params[f.name] for f in fields(Question)}))
    if table:
        print(answer_table(asked, as_json))
        return
    try:
        print(answer(asked, as_json))
    except BudgetTooSmall as error:
        if as_json:
            print(json.dumps(failed(error)))
        raise


@app.command("inspect")
def inspect_command(
    path: Annotated[Path, typer.Argument(help="A file of weights, or the folder of a model.")],
    dtype: Annotated[
        str, typer.Option(help="What floats would become: float32, bfloat16, float16 or keep.")
    ] = "keep",
    state: State = None,
    as_json: AsJson = False,
) -> None:
    """Say what a file holds, in which layout, and what would become of every tensor."""
    from sakuga.commands.inspect import as_json as to_json
    from sakuga.commands.inspect import describe, inspect

    found = inspect(_place(path), dtype, state)
    print(to_json(found) if as_json else "\n".join(line for one in found for line in describe(one)))
    if any(one.problem for one in found):
        raise typer.Exit(1)


@app.command("convert")
def convert_command(
    source: Annotated[
        Path, typer.Argument(help="A model's folder, a component's or its file, or an adapter.")
    ],
    out: Annotated[Path, typer.Argument(help="A folder, or a .safetensors file.")],
    layout: Annotated[
        str | None,
        typer.Option(help="diffusers, original or single-file; an adapter keeps its names."),
    ] = None,
    *,
    dtype: Annotated[
        str, typer.Option(help="float32, bfloat16 or float16; keep leaves floats as they are.")
    ] = "keep",
    force: Annotated[bool, typer.Option("--force", help="Overwrite what is there.")] = False,
    state: State = None,
    as_json: AsJson = False,
) -> None:
    """Write a model or one component in another layout or dtype, an adapter as safetensors."""
    from sakuga.commands.convert import convert

    for written in convert(_place(source), out, layout, dtype, force=force, state=state):
        print(json.dumps(plain(written)) if as_json else str(written), flush=True)


@app.command()
def monitor(
    interval: Annotated[float, typer.Option(help="Seconds between readings.", min=0.1)] = 1.0,
    count: Annotated[
        int | None, typer.Option(help="Readings to print; without it, until Ctrl-C.", min=1)
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Print how much memory of each NVIDIA card is used and free, every second."""
    from sakuga.memory.monitor import HEADER, watch

    for index, cards in enumerate(watch(interval, count)):
        if as_json:
            print(json.dumps(plain(cards)), flush=True)
            continue
        if index == 0:
            print(HEADER)
        print("\n".join(str(card) for card in cards), flush=True)


@train_app.command("chibi")
def train_chibi_command(
    out: Annotated[Path, typer.Option(help="The folder to train in; goes on from what is there.")],
    smoke: Annotated[bool, typer.Option("--smoke", help="A minute, to see it run.")] = False,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    packaged: Annotated[
        bool, typer.Option("--packaged", help="Begin with the networks that ship with sakuga.")
    ] = False,
) -> None:
    """Train the embedded model from its own renderer."""
    from sakuga.chibi.train import main as train

    train(out, device=device, smoke=smoke, packaged=packaged)


ADAPTERS = typer.Argument(
    metavar="ADAPTER...", help="FILE[:STRENGTH][:alpha=NUMBER][:BLOCKS=FACTOR]..."
)
Transformer = Annotated[str, typer.Option(help="A model, or a transformer's file or folder.")]
Force = Annotated[bool, typer.Option("--force", help="Overwrite what is there.")]


@lora_app.command("show")
def lora_show_command(
    adapters: Annotated[list[str], ADAPTERS],
    model: Annotated[
        str | None, typer.Option(help="Also say what of a model they would change.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Say what adapters are, and what they change; exit 1 if they do not fit the model."""
    from sakuga.commands.lora import as_text, look

    shown = [look(text, model) for text in adapters]
    print(as_text(shown, as_json=as_json))
    if not all(each.fits for each in shown):
        raise typer.Exit(1)


@lora_app.command("merge")
def lora_merge_command(
    adapters: Annotated[list[str], ADAPTERS],
    out: Annotated[Path, typer.Option(help="The .safetensors file to write.")],
    model: Transformer = EMBEDDED,
    partial: Partial = False,
    force: Force = False,
) -> None:
    """Write the transformer of a model with adapters folded in."""
    from sakuga.adapters.merge import merge
    from sakuga.adapters.spec import parse_adapters
    from sakuga.commands.lora import open_transformer

    specs = parse_adapters(adapters)
    print(merge(open_transformer(model), specs, out, partial=partial, force=force))


@lora_app.command("extract")
def lora_extract_command(
    base: Annotated[str, typer.Argument(help="A model, or a transformer's file or folder.")],
    tuned: Annotated[str, typer.Argument(help="The same, after it was trained further.")],
    out: Annotated[Path, typer.Option(help="The folder to write, as PEFT does.")],
    rank: Annotated[int, typer.Option(min=1, help="Rank of the LoRA.", show_default=True)] = 32,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")] = "auto",
    force: Force = False,
) -> None:
    """Write the difference of two transformers as a LoRA, and say how near it comes."""
    from sakuga.adapters.extract import extract
    from sakuga.commands.lora import open_transformer
    from sakuga.memory.devices import choose_device

    found = extract(
        open_transformer(base), open_transformer(tuned), out, rank,
        device=choose_device(device), force=force,
    )  # fmt: skip
    print(found)


def _place(path: Path) -> Path:
    """A path as given, or the folder of the model that ships, by its name."""
    return EMBEDDED_FOLDER if str(path) == EMBEDDED and not path.exists() else path


def _local(model: str) -> str:
    """A model as given, or, if it is named as on a hub, the folder that holds it now."""
    from sakuga.checkpoint.hub import Hub, fetch, parse_name

    name = parse_name(model)
    if name is None:
        return model
    cache = os.environ.get("HF_HUB_CACHE")
    hub = Hub(
        endpoint=os.environ.get("HF_ENDPOINT"),
        token=os.environ.get("HF_TOKEN"),
        cache=Path(cache) if cache else None,
        offline=os.environ.get("HF_HUB_OFFLINE", "").upper() in {"1", "ON", "YES", "TRUE"},
        watched=sys.stderr.isatty(),
    )
    folder = fetch(name, hub)
    print(f"{name.repository}@{folder.name}", file=sys.stderr)
    return str(folder)


def _findings(text: str, words: LintProfile) -> tuple[Finding, ...]:
    """What lint says of a text. The tokenizer is opened only if the text may be too long."""
    from sakuga.checkpoint.tokenizer import read_tokenizer
    from sakuga.prompt.lint import lint
    from sakuga.tokenizer.tokens import Tokenizer

    path = words.tokenizer
    tokenizer = None if path is None else lambda: Tokenizer.open(read_tokenizer(path))
    return lint(
        text,
        limit=words.limit,
        tokenizer=tokenizer,
        vocabulary=words.vocabulary,
        system_xml=words.system_xml,
        system_text=words.system_text,
    )


def _show_findings(argument: str, text: str, words: LintProfile, *, strict: bool) -> None:
    """Print findings before a drawing. Raises PromptRefused, and RequestError if strict."""
    from sakuga.prompt.document import read

    read(text)  # what no tool should parse stops even a drawing that is not strict
    found = _findings(text, words)
    name = argument if _is_file(argument) else "prompt"
    for finding in found:
        print(_line(name, finding), file=sys.stderr)
    errors = sum(finding.severity == "error" for finding in found)
    if strict and errors:
        raise RequestError(
            "with --strict a prompt must have no errors", f"{errors}", "Mend it, see above."
        )


def _fixed(name: str, text: str) -> str:
    """The text with its safe fixes, written back to its file, or to stdout for -."""
    from sakuga.files.png import write_atomically
    from sakuga.prompt.lint import fix

    mended = fix(text)
    if name == "-":
        sys.stdout.write(mended)
    elif mended != text:
        write_atomically(Path(name), mended.encode(), replace=True)
    return mended


def _line(name: str, finding: Finding) -> str:
    """A finding as compilers print it."""
    place = f"{name}:{finding.line}:{finding.column}"
    fix = finding.fix.removesuffix(".")
    return f"{place}: {finding.severity} [{finding.rule}] {finding.reason}. {fix}."


def _plain(finding: Finding) -> dict[str, Any]:
    """A finding for JSON, without the edits that --fix would apply."""
    form: dict[str, Any] = plain(finding)
    del form["edits"]
    return form
