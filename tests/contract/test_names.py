"""What other programs import and parse: public names, error codes, exit codes."""

from __future__ import annotations

import importlib
import inspect
import re
from types import ModuleType

import pytest

from sakuga import errors

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
    "BudgetTooSmall": ("budget_too_small", 1, 500),
    "NonFiniteOutput": ("non_finite_output", 1, 500),
    "ReceiptMismatch": ("receipt_mismatch", 1, 500),
    "Cancelled": ("cancelled", 130, 499),
}

PROMISED = {
    "sakuga.api.request": {
        "Decoded", "Encoded", "Event", "Finished", "ImageGenerator", "Picture", "Planned", "Queued",
        "Receipt", "Request", "Result", "Stepped", "Warned", "event_from", "resolve",
    },
    "sakuga.engine.engine": {"Engine"},
    "sakuga.prompt.document": {"Document", "read", "write"},
    "sakuga.prompt.lint": {"Finding", "fix", "lint"},
    "sakuga.prompt.canonical": {"canonical", "encoder_texts"},
    "sakuga.tokenizer.tokens": {"Tokenizer"},
    "sakuga.model.spec": {"CHIBI", "NEWBIE_3_5B", "PRESETS", "ModelSpec"},
    "sakuga.sample.solvers": {"solve"},
    "sakuga.sample.guidance": {"guided"},
    "sakuga.weights.store": {"Store"},
    "sakuga.files.atomic": {"write_atomically"},
    "sakuga.files.png": {"encode_png", "read_texts"},
    "sakuga.commands.cli": {"app", "main"},
}  # fmt: skip


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


@pytest.mark.parametrize("module", PROMISED)
def test_promised_names_can_be_imported(module: str) -> None:
    there = vars(importlib.import_module(module))
    assert PROMISED[module] <= set(there)


@pytest.mark.parametrize("kind", classes(errors).values(), ids=lambda kind: kind.__name__)
def test_an_error_states_rule_got_and_fix(kind: type[errors.SakugaError]) -> None:
    said = str(kind("steps must be 1 to 200", "0", "Choose one in range."))
    assert said == "steps must be 1 to 200; got 0. Choose one in range."
