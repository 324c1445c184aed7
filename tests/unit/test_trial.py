"""One small transformer taught by XML, by flat tags, by both: the whole way, in seconds."""

from __future__ import annotations

import json
from itertools import islice
from pathlib import Path

import pytest
import torch

from sakuga.checkpoint.catalog import EMBEDDED_FOLDER
from sakuga.checkpoint.folder import open_checkpoint
from sakuga.chibi.binding.page import trial_table
from sakuga.chibi.binding.trial import (
    SHORT,
    SIZE,
    TAUGHT,
    Trial,
    lesson_of,
    run_trial,
    trial_rows,
)
from sakuga.chibi.data import Lesson, prompt_batches
from sakuga.engine.networks import Networks
from sakuga.tokenizer.tokens import Tokenizer

CPU = torch.device("cpu")
FEW = Trial(pictures=4, workers=0, minutes=0.001, batch=2, drawn=1, said=(1,), people=())


@pytest.fixture(scope="module")
def lesson() -> Lesson:
    return lesson_of(Networks(open_checkpoint(EMBEDDED_FOLDER), "float32")["vae"], FEW, CPU)


@pytest.mark.parametrize("name", TAUGHT)
def test_prompts_are_of_the_forms_that_are_taught(lesson: Lesson, name: str) -> None:
    batches = prompt_batches(lesson, EMBEDDED_FOLDER, 2, 1, 0, TAUGHT[name])
    tokenizer = Tokenizer.open(EMBEDDED_FOLDER / "tokenizer" / "tokenizer.json")
    mark = tokenizer.encode("<character_1>\n").text_ids[0]
    marked = [mark in ids for batch in islice(batches, 24) for ids in batch.gemma.tolist()]
    share = sum(marked) / len(marked)
    # One prompt in ten is empty.
    assert {"XML alone": share > 0.7, "flat alone": share == 0, "mixed": 0.2 < share < 0.75}[name]


def test_pictures_are_the_same_for_all_and_unlike_those_of_the_benchmark(lesson: Lesson) -> None:
    again = lesson_of(Networks(open_checkpoint(EMBEDDED_FOLDER), "float32")["vae"], FEW, CPU)
    assert torch.equal(lesson.codes[0], again.codes[0])
    assert torch.equal(lesson.latents[0], again.latents[0])
    assert lesson.latents[0].shape[-2:] == (SIZE[1] // 8, SIZE[0] // 8)
    assert set(lesson.codes[0][:, 0].tolist()) <= {1, 2}


def test_both_forms_are_drawn_as_they_are_typed() -> None:
    rows = list(trial_rows(SHORT))
    assert {row.form for row in rows} == {"XML", "flat"}
    assert {row.encoding for row in rows} == {"as typed"}


def test_all_three_are_taught_and_measured(tmp_path: Path) -> None:
    lines: list[str] = []
    told = run_trial(tmp_path, FEW, CPU, lines.append)
    assert json.loads((tmp_path / "forms.json").read_text()) == json.loads(json.dumps(told))
    assert list(told["taught"]) == list(TAUGHT)
    for one in told["taught"].values():
        assert one["samples"] >= FEW.batch
        assert [row["drawn"]["pictures"] for row in one["rows"]] == [1, 1]
    page = trial_table(told)
    assert page.count("\n") == 4
    assert "XML alone | flat alone | mixed" in page
    assert len(lines) == 1 + 2 * len(TAUGHT)
