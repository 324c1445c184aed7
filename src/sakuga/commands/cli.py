"""The command line: which commands there are, and how each of them ends.

A command is loaded when it is asked for, so that `--help` and `lint` start in a blink.
"""

from __future__ import annotations

import io
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import Annotated, Any

import typer
import typer.main
from typer.core import TyperCommand, TyperGroup

from sakuga.commands import interrupts, streams
from sakuga.errors import Cancelled, RequestError, SakugaError


@dataclass(frozen=True, slots=True)
class Command:
    """A command: the function behind it, as `module:function`, and its line of help."""

    function: str
    help: str

    def load(self, name: str) -> Any:
        """The command as typer runs it."""
        module, function = self.function.split(":")
        app = typer.Typer(**STYLE)
        loaded = getattr(import_module(f"sakuga.commands.{module}"), function)
        app.command(name, cls=LoadedCommand)(loaded)
        return typer.main.get_command(app)


@dataclass(frozen=True, slots=True)
class CommandGroup:
    """Commands that share a first word."""

    commands: Mapping[str, Command]
    help: str

    def load(self, name: str) -> Any:
        """The group as typer runs it."""
        group = LazyGroup(name=name, help=self.help, no_args_is_help=True, rich_markup_mode=None)
        group.table = self.commands
        return group


STYLE: Mapping[str, Any] = {
    "add_completion": False, "rich_markup_mode": None, "pretty_exceptions_enable": False,
}  # fmt: skip
COMMANDS: Mapping[str, Command | CommandGroup] = {
    "draw": Command("draw:draw", "Draw pictures of a prompt, or one picture again."),
    "serve": Command(
        "serve:serve", "Serve a model: a page, the APIs of OpenAI and A1111, a queue on disk."
    ),
    "lint": Command(
        "lint:lint",
        "Say what a prompt gets wrong, where, and how to mend it; exit 1 if it has errors.",
    ),
    "format": Command(
        "lint:format_prompts", "Print the canonical form of a prompt: what the encoders read."
    ),
    "convert-prompt": Command(
        "forms:convert_prompt", "Write flat tags as XML, and XML as flat tags."
    ),
    "words": Command(
        "words:words",
        "Print the words a model was taught, by what they describe, or what it knows of some.",
    ),
    "show": Command("show:show", "Print what a picture says of how it was made."),
    "fetch": Command(
        "weights:fetch", "Download a model, or find it in the cache, and print its folder."
    ),
    "doctor": Command(
        "machine:doctor",
        "Say whether this computer and a model are fit to draw; exit 1 if anything is red.",
    ),
    "plan": Command(
        "plan:plan",
        "Say how a drawing would fit a card: by which levers, how much memory, how long.",
    ),
    "inspect": Command(
        "weights:inspect",
        "Say what a file holds, in which layout, and what would become of every tensor.",
    ),
    "convert": Command(
        "weights:convert",
        "Write a model or one component in another layout or dtype, an adapter as safetensors.",
    ),
    "monitor": Command(
        "machine:monitor",
        "Print how much memory of each NVIDIA card is used and free, every second.",
    ),
    "train": CommandGroup(
        {"chibi": Command("train:chibi", "Train the embedded model from its own renderer.")},
        "Train a model.",
    ),
    "lora": CommandGroup(
        {
            "show": Command(
                "adapters:show",
                "Say what adapters are, and what they change; exit 1 if they do not fit the model.",
            ),
            "merge": Command(
                "adapters:merge", "Write the transformer of a model with adapters folded in."
            ),
            "extract": Command(
                "adapters:extract",
                "Write the difference of two transformers as a LoRA, and say how near it comes.",
            ),
        },
        "Adapters: LoRA, LoKr and trained norms.",
    ),
}


class LoadedCommand(TyperCommand):
    """A command that knows other programs' names for its options, and ends in a sentence."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """As typer does it. Raises RequestError for an option that is known from elsewhere."""
        given_all = list(args)  # which parsing takes apart
        try:
            return super().parse_args(ctx, args)
        except Exception as error:  # typer has no public name for the kinds there are
            given = str(getattr(error, "option_name", ""))
            text = next((one for one in given_all if given and _is_text(one, given)), None)
            if text is not None:
                fix = f"Put -- before it: sakuga {ctx.info_name} -- {text!r}."
                raise RequestError(
                    "what begins with a dash is an option", repr(text), fix
                ) from None
            answer = self._named_elsewhere(given)
            if answer is None:
                raise
            raise RequestError("an option is one of this program's", given, answer) from None

    def _named_elsewhere(self, given: str) -> str | None:
        from sakuga.api.elsewhere import named_elsewhere

        ours = [flag for parameter in self.params for flag in parameter.opts]
        return None if given in ours else named_elsewhere(given, ours)

    def invoke(self, ctx: Any) -> Any:
        """Run it. Raises Cancelled after Ctrl-C."""
        try:
            with interrupts.raised():
                return super().invoke(ctx)
        except KeyboardInterrupt:
            raise Cancelled(
                "a command runs until it is done or stopped", "Ctrl-C", "Nothing half done is left."
            ) from None


def _is_text(argument: str, option: str) -> bool:
    """Whether an argument that was taken for an option is a text: words stand behind a dash."""
    words = argument.split("=", maxsplit=1)[0].split(maxsplit=1)
    return argument.startswith(option.strip()) and (len(words) > 1 or "," in argument)


class LazyGroup(TyperGroup):
    """A group that knows the names and the help of its commands, and loads one when asked."""

    table: Mapping[str, Command | CommandGroup] = COMMANDS

    def list_commands(self, ctx: Any) -> list[str]:
        """The names, in the order of the table."""
        return list(self.table)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """The command of a name, loaded; None where there is none."""
        if cmd_name in self.table and not self.commands.get(cmd_name):
            self.commands[cmd_name] = self.table[cmd_name].load(cmd_name)
        return self.commands.get(cmd_name)

    def resolve_command(self, ctx: Any, args: list[str]) -> tuple[str | None, Any, list[str]]:
        """As typer does it, which looks for the nearest name among the commands it has."""
        unloaded: Mapping[str, Any] = dict.fromkeys(self.table)
        self.commands = {**unloaded, **self.commands}
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """Write the list of commands, none of which is loaded for it."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, one.help) for name, one in self.table.items()])


def _version(asked: bool) -> None:
    if asked:
        from importlib.metadata import version

        print(f"sakuga {version('sakuga')}")
        raise typer.Exit


app = typer.Typer(
    cls=LazyGroup, help="Draw anime pictures from XML-structured prompts.", no_args_is_help=True,
    **STYLE,
)  # fmt: skip


@app.callback()
def root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Draw anime pictures from XML-structured prompts."""


def main() -> None:
    """Run the command line; the exit code says how it ended."""
    # A prompt may be in any script; a console or a pipe in another encoding must not end it.
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    try:
        if any("\0" in argument for argument in sys.argv):  # as only another program could
            raise RequestError("arguments are text", "a NUL in one", "Leave it out.")
        try:
            app()
        finally:
            streams.close()
    except SakugaError as error:
        streams.say(f"sakuga: {error}", err=True)
        sys.exit(error.exit_code)
    except BrokenPipeError:  # whoever read has seen enough
        streams.give_up()
        sys.exit(1)
    except OSError as error:
        streams.give_up()
        place = "standard output" if error.filename is None else error.filename
        streams.say(f"sakuga: {error.strerror or error} for {place}.", err=True)
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(interrupts.CODE)
