"""What other programs import and parse: public names, error codes, exit codes."""

from __future__ import annotations

import inspect
import re
from dataclasses import fields
from types import ModuleType

import pytest

import sakuga
from sakuga import errors
from sakuga.api import events

ERRORS = {
    # class: (code in JSON, exit code of a command, HTTP status)
    "SakugaError": ("error", 1, 500),
    "RequestError": ("invalid_request", 2, 400),
    "PromptRefused": ("prompt_refused", 2, 400),
    "ModelNotFound": ("model_not_found", 2, 404),
    "OutputExists": ("output_exists", 2, 400),
    "WeightsError": ("bad_weights", 1, 500),
    "CorruptFile": ("corrupt_file", 1, 500),
    "UnsafeFile": ("unsafe_file", 1, 500),
    "LayoutError": ("unknown_layout", 1, 500),
    "BindError": ("unbound_weights", 1, 500),
    "SpecMismatch": ("spec_mismatch", 1, 500),
    "OutOfMemory": ("out_of_memory", 1, 500),
    "BudgetTooSmall": ("budget_too_small", 1, 422),
    "NonFiniteOutput": ("non_finite_output", 1, 500),
    "Busy": ("busy", 75, 503),
    "Paused": ("paused", 75, 503),
    "ReceiptMismatch": ("receipt_mismatch", 1, 409),
    "Cancelled": ("cancelled", 130, 499),
}

# Every public name with its signature: a change here is a change for whoever uses sakuga.
PUBLIC = {
    "Budget": "(vram: str = 'auto', weights: str = 'auto', allow_lossy: bool = False, "
              "keep_resident: bool = False, pinned: str = 'auto') -> None",
    "Engine": "(checkpoint: Checkpoint, device: Device, spec: EngineSpec, "
              "observers: tuple[Observer, ...] = (), "
              "digest: Callable[[Path], str] | None = None) -> None",
    "EngineSpec": "(model: str | None = None, transformer: str | None = None, "
                  "gemma: str | None = None, jina: str | None = None, vae: str | None = None, "
                  "lora: tuple[str, ...] = (), device: str = 'auto', dtype: str = 'auto', "
                  "threads: int | None = None, wait: float = 0.0, cache: str | None = None, "
                  "budget: Budget = <factory>, attention: str = auto) -> None",
    "ImageGenerator": "(*args, **kwargs)",
    "Request": "(prompt: str, negative: str = '', seed: int | None = None, "
               "width: int | None = None, height: int | None = None, number: int = 1, "
               "recipe: str | None = None, steps: int | None = None, "
               "guidance: float | None = None, solver: str | None = None, "
               "shift: float | None = None, schedule: str | None = None, "
               "renorm: float | None = None, truncation: float | None = None, "
               "uncond: str | None = None, system: str | None = None, verbatim: bool = False, "
               "text_mode: str | None = None, max_tokens: int | None = None, "
               "lora: tuple[str, ...] = (), lora_partial: bool = False, "
               "long: bool = False, sent: tuple[str, ...] = (), "
               "normalisation: str | None = None, weighting: str | None = None, "
               "encoding: str | None = None, as_xml: bool | None = None, image: str | None = None, "
               "strength: float | None = None, mask: str | None = None, "
               "mask_invert: bool = False, mask_grow: int | None = None, "
               "mask_feather: int | None = None, only_masked: bool = False, "
               "mask_padding: int | None = None, outpaint: str | None = None, "
               "variation: float | None = None, variation_seed: int | None = None, "
               "to_seed: int | None = None, hires: str | None = None, "
               "hires_strength: float | None = None, hires_by: str | None = None, "
               "regions: float | None = None, regions_until: float | None = None, "
               "upscale: str | None = None) -> None",
    "Result": "(picture: Picture, receipt: Receipt, seconds: float) -> None",
    "DiT": "(network: NextDiT) -> None",
    "NewbiePipeline": "(engine: Engine) -> None",
    "SakugaError": "(rule: str, got: str, fix: str) -> None",
    "draw": "(prompt: str | Request, *, negative: str = '', seed: int | None = None, "
            "width: int | None = None, height: int | None = None, steps: int | None = None, "
            "guidance: float | None = None, model: str | Path = 'chibi') -> Result | list[Result]",
    "lint": "(text: str, *, limit: int = 512, "
            "tokenizer: Callable[[], Tokenizer] | None = None, "
            "vocabulary: frozenset[str] | None = None, system_xml: str = '', "
            "system_text: str = '', weighted: bool = False, form: Form = 'as given') "
            "-> tuple[Finding, ...]",
    "open": "(model: str | Path = 'chibi', *, device: str | torch.device = 'auto', "
            "dtype: str | torch.dtype = 'auto', vram: str = 'auto', "
            "threads: int | None = None, cache: str | Path | None = None) -> Engine",
}  # fmt: skip
VERBS = {
    "Engine.open": "(spec: EngineSpec | str | Path | None = None, *, "
                   "observers: tuple[Observer, ...] = (), "
                   "digest: Callable[[Path], str] | None = None) -> Engine",
    "Engine.resolve": "(self, request: Request | str) -> Resolved",
    "Engine.plan": "(self, request: Resolved) -> Run",
    "Engine.run": "(self, run: Run) -> Generator[Event, None, None]",
    "Engine.draw": "(self, request: Request | str) -> Result | list[Result]",
    "Engine.batch": "(self, requests: Iterable[Request | str]) -> Iterator[Result]",
    "Engine.generate": "(self, request: Request | str) -> Generator[Event, None, None]",
    "ImageGenerator.generate": "(self, request: Request) -> Generator[Event, None, None]",
    "NewbiePipeline.from_pretrained": "(path: str | Path, *, torch_dtype: Any = auto, "
                                      "device_map: str = auto) -> NewbiePipeline",
    "Result.save": "(self, path: str | Path, *, overwrite: bool = False, "
                   "quality: int | None = None, metadata: bool = True) -> Path",
}  # fmt: skip
EVENTS = {
    "Queued": ("position", "event"),
    "Planned": ("request", "plan", "model", "weights", "adapters", "event"),
    "Encoded": ("tokens", "event"),
    "Stepped": ("index", "of", "previews", "memory", "event"),
    "Decoded": ("event",),
    "Finished": ("result", "event"),
    "Warned": ("code", "message", "event"),
}


def classes(module: ModuleType) -> dict[str, type]:
    members = inspect.getmembers(module, inspect.isclass)
    return {name: kind for name, kind in members if kind.__module__ == module.__name__}


def test_an_error_keeps_its_codes() -> None:
    got = {n: (c.code, c.exit_code, c.http_status) for n, c in classes(errors).items()}
    assert got == ERRORS


def test_the_drawn_error_tree_is_the_class_tree() -> None:
    drawn: dict[str, str] = {}
    path: list[str] = []
    for line in (errors.__doc__ or "").splitlines():
        found = re.match(r"^    ([│├└─ ]*)([A-Z]\w+)", line)
        if found:
            depth = len(found[1]) // 4
            path[depth:] = [found[2]]
            drawn[found[2]] = path[depth - 1] if depth else "Exception"
    assert drawn == {name: kind.__bases__[0].__name__ for name, kind in classes(errors).items()}


def bare(signature: inspect.Signature) -> str:
    """As people write it: annotations are text, and Python quotes them."""
    return str(signature).replace("'", "")


def test_the_package_promises_these_names_and_no_others() -> None:
    assert dir(sakuga) == sorted(PUBLIC) == sorted(sakuga.__all__)
    with pytest.raises(AttributeError, match="no attribute 'paint'"):
        _ = sakuga.paint


@pytest.mark.parametrize("name", PUBLIC)
def test_a_public_name_keeps_its_signature(name: str) -> None:
    assert bare(inspect.signature(getattr(sakuga, name))) == PUBLIC[name].replace("'", "")


@pytest.mark.parametrize("name", VERBS)
def test_a_method_that_programs_call_keeps_its_signature(name: str) -> None:
    kind, method = name.split(".")
    found = inspect.getattr_static(getattr(sakuga, kind), method)
    inner = found.__func__ if isinstance(found, classmethod) else found
    signature = inspect.signature(inner)
    if isinstance(found, classmethod):
        signature = signature.replace(parameters=[*signature.parameters.values()][1:])
    assert bare(signature) == VERBS[name]


def test_events_keep_their_fields() -> None:
    kinds = {kind.__name__: kind for kind in events.EVENTS.values()}
    assert {name: tuple(f.name for f in fields(kind)) for name, kind in kinds.items()} == EVENTS


@pytest.mark.parametrize("kind", classes(errors).values(), ids=lambda kind: kind.__name__)
def test_an_error_states_rule_got_and_fix(kind: type[errors.SakugaError]) -> None:
    said = str(kind("steps must be 1 to 200", "0", "Choose one in range."))
    assert said == "steps must be 1 to 200; got 0. Choose one in range."
