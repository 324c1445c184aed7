"""The seam: an engine is opened from data, anywhere, and used through its events alone."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Generator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import torch

import sakuga
from engines import open_engine
from sakuga.api.codec import plain, typed
from sakuga.api.engine_spec import Budget, EngineSpec
from sakuga.api.events import Event, Finished, Planned, Queued, event_from
from sakuga.api.request import Request
from sakuga.api.said import receipt_from
from sakuga.commands.draw import Output, Session, draw_with
from sakuga.errors import Busy, OutputExists, ReceiptMismatch, RequestError
from sakuga.files.texts import read_texts

ASK = Request("<character_1><appearance>blue_hair</appearance></character_1>", seed=5, steps=2)

# An engine in a process of its own: a spec and a request come in as JSON, events go out.
REMOTE = """
import json, sys
from sakuga.api.codec import plain, typed
from sakuga.api.engine_spec import EngineSpec
from sakuga.api.request import Request
from sakuga.engine.engine import Engine
engine = Engine.open(typed(EngineSpec, json.loads(sys.stdin.readline())))
for event in engine.generate(typed(Request, json.loads(sys.stdin.readline()))):
    print(json.dumps(plain(event)), flush=True)
"""


@dataclass(frozen=True)
class Remote:
    """An ImageGenerator whose engine runs in another process."""

    spec: EngineSpec

    def generate(self, request: Request) -> Generator[Event, None, None]:
        command = [sys.executable, "-c", REMOTE]
        lines = "".join(json.dumps(plain(one)) + "\n" for one in (self.spec, request))
        with subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        ) as process:
            assert process.stdin is not None
            assert process.stdout is not None
            process.stdin.write(lines)
            process.stdin.close()
            for line in process.stdout:
                yield event_from(json.loads(line))


def test_a_spec_survives_json() -> None:
    spec = EngineSpec(
        "folder", gemma="gemma.gguf", lora=("style:0.5",), device="cuda:1", threads=2, wait=1.5,
        cache="somewhere", budget=Budget(vram="8GB", allow_lossy=True),
    )  # fmt: skip
    assert typed(EngineSpec, json.loads(json.dumps(plain(spec)))) == spec


def test_another_process_opens_the_same_engine_and_draws_the_same(tiny_model: Path) -> None:
    spec = EngineSpec(str(tiny_model), device="cpu", threads=1, budget=Budget(vram="1GB"))
    (far,) = [e.result for e in Remote(spec).generate(ASK) if isinstance(e, Finished)]
    (near,) = [e.result for e in sakuga.Engine.open(spec).generate(ASK)
               if isinstance(e, Finished)]  # fmt: skip
    assert far.picture == near.picture
    assert replace(far.receipt, versions={}) == replace(near.receipt, versions={})


def test_the_command_draws_with_a_generator_of_another_process(
    tiny_model: Path, tmp_path: Path
) -> None:
    out = tmp_path / "far.png"
    session = Session(ASK, Output(out=str(out)), old=None, exact=False, as_json=False, started=0.0)
    (result,) = draw_with(Remote(EngineSpec(str(tiny_model), device="cpu")), session)
    assert receipt_from(read_texts(out), "far.png") == result.receipt


def test_what_is_not_wanted_is_refused_by_the_plan_alone(tiny_model: Path, tmp_path: Path) -> None:
    """Before anything is encoded: a file that is there, and other weights than a receipt's."""
    out = tmp_path / "there.png"
    out.touch()
    seen: list[str] = []
    engine = open_engine(tiny_model)
    session = Session(ASK, Output(out=str(out)), old=None, exact=False, as_json=False, started=0.0)
    with engine.observed(lambda place, *_: seen.append(place)), pytest.raises(OutputExists):
        draw_with(engine, session)
    (done,) = [e.result for e in engine.generate(ASK) if isinstance(e, Finished)]
    other = replace(done.receipt, weights={**done.receipt.weights, "vae": "0" * 64})
    session = replace(session, output=Output(out=str(tmp_path / "b.png")), old=other, exact=True)
    with (
        engine.observed(lambda place, *_: seen.append(place)),
        pytest.raises(ReceiptMismatch, match="other weights of vae in 'tiny' than in 'tiny'"),
    ):
        draw_with(engine, session)
    assert seen == []


def test_a_plan_says_with_what_it_draws(tiny_model: Path) -> None:
    engine = open_engine(tiny_model)
    planned = next(engine.generate(ASK))
    assert isinstance(planned, Planned)
    assert set(planned.weights) == {"transformer", "text_encoder", "text_encoder_2", "vae"}
    assert (planned.model, planned.adapters) == ("tiny", ())
    (done,) = [e.result for e in engine.generate(ASK) if isinstance(e, Finished)]
    assert done.receipt.weights == planned.weights


def test_a_second_request_waits_where_that_was_asked(tiny_model: Path) -> None:
    engine = sakuga.Engine.open(EngineSpec(str(tiny_model), device="cpu", wait=60))
    first, events = engine.generate(ASK), list[Event]()
    next(first)
    second = threading.Thread(target=lambda: events.extend(engine.generate(ASK)))
    second.start()
    drawn = [event.result for event in first if isinstance(event, Finished)]
    second.join(timeout=60)
    assert events[0] == Queued(1)
    assert events[-1].result.picture == drawn[0].picture


def test_a_second_request_is_told_that_the_engine_is_busy(tiny_model: Path) -> None:
    engine = open_engine(tiny_model)
    first = engine.generate(ASK)
    next(first)
    with pytest.raises(Busy) as told:
        next(engine.generate(ASK))
    assert told.value.http_status == 503
    first.close()
    assert isinstance(next(engine.generate(ASK)), Planned)


def test_an_engine_computes_with_as_many_threads_as_it_was_told(tiny_model: Path) -> None:
    before, seen = torch.get_num_threads(), set[int]()
    engine = sakuga.Engine.open(EngineSpec(str(tiny_model), device="cpu", threads=1))
    with engine.observed(lambda *_: seen.add(torch.get_num_threads())):
        *_, last = engine.generate(ASK)
    assert 1 in seen
    assert last.result.receipt.plan.threads == 1
    assert torch.get_num_threads() == before


def test_threads_sleep_while_they_wait_whoever_starts_an_engine() -> None:
    """Set before torch is loaded, which reads it once, and only where nobody has said otherwise."""
    script = (
        "import os, sys, sakuga\n"
        "assert 'torch' not in sys.modules\n"
        "sakuga.Engine\n"
        "print(os.environ['OMP_WAIT_POLICY'])\n"
    )
    for given, expected in (({}, "PASSIVE"), ({"OMP_WAIT_POLICY": "ACTIVE"}, "ACTIVE")):
        bare = {name: value for name, value in os.environ.items() if name != "OMP_WAIT_POLICY"}
        said = subprocess.run(
            [sys.executable, "-c", script], env={**bare, **given}, capture_output=True, text=True,
            check=True,
        )  # fmt: skip
        assert said.stdout.split() == [expected]


# Draws by the command line; says how often a prompt was read, and how often a tokenizer's file.
COUNTED = """
import sys
from sakuga.commands.cli import main
from sakuga.prompt.document import read
from sakuga.tokenizer import tokens
try:
    main()
except SystemExit as end:
    assert not end.code, end.code
print(read.cache_info().misses, tokens._read.cache_info().misses)
"""


def test_a_prompt_and_a_tokenizer_are_read_once(tiny_model: Path, tmp_path: Path) -> None:
    """By the linter, which needs a tokenizer for a long prompt, and by the engine after it."""
    prompt = ", ".join(["blue_hair"] * 200)
    command = [sys.executable, "-c", COUNTED, "draw", prompt, "--negative", "smile", "--no-cache"]
    where = ["--model", str(tiny_model), "--device", "cpu", "--out", str(tmp_path / "a.png")]
    small = ["--steps", "1", "--size", "64"]
    said = subprocess.run([*command, *where, *small], capture_output=True, text=True, check=False)
    assert said.returncode == 0, said.stderr
    assert said.stdout.splitlines()[-1] == "2 2"


@pytest.mark.parametrize(
    ("changed", "said"),
    [({"threads": 0}, "threads must be 1 to 1024"), ({"threads": 1025}, "1 to 1024"),
     ({"wait": -1.0}, "wait must be 0 to 86400"), ({"wait": float("nan")}, "wait must be")],
    ids=str,
)  # fmt: skip
def test_a_spec_outside_its_ranges_is_refused_when_the_engine_is_opened(
    tiny_model: Path, changed: dict[str, float], said: str
) -> None:
    with pytest.raises(RequestError, match=said):
        sakuga.Engine.open(replace(EngineSpec(str(tiny_model), device="cpu"), **changed))


def test_keywords_of_the_one_line_change_a_request(tiny_model: Path) -> None:
    ask = replace(ASK, width=64, height=64)
    result = sakuga.draw(ask, seed=9, model=str(tiny_model))
    assert (result.receipt.seed, result.receipt.request.steps) == (9, 2)
