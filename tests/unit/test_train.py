"""Training, as a smoke test: every stage runs, stops, and goes on from what it saved."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from sakuga.chibi.data import Gallery, draw_renders, prompt_batches
from sakuga.chibi.losses import importance, sample_times
from sakuga.chibi.progress import TrainingFolder
from sakuga.chibi.regime import SMOKE
from sakuga.chibi.train import train_chibi
from sakuga.model.spec import CHIBI

BRIEF = replace(SMOKE, pictures=8, vae_minutes=0.01, judge_minutes=0.01, transformer_minutes=0.01)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str]]:
    folder, lines = tmp_path_factory.mktemp("train"), []
    train_chibi(folder, BRIEF, "cpu", lines.append)
    return folder, lines


def test_every_stage_leaves_its_weights_and_says_how_it_went(trained) -> None:
    folder, lines = trained
    for name in ("vae", "judge", "text2velocity", "latents"):
        assert load_file(folder / f"{name}.safetensors")
    assert set(json.loads((folder / "progress.json").read_text())) == {
        "vae",
        "judge",
        "transformer",
    }
    said = "\n".join(lines)
    assert "psnr" in said
    assert "judge on held-out renders" in said
    assert "| binding |" in said


def test_a_finished_stage_is_not_run_again(trained) -> None:
    folder, _ = trained
    before = {file: file.read_bytes() for file in folder.glob("*.safetensors")}
    lines: list[str] = []
    train_chibi(folder, BRIEF, "cpu", lines.append)
    assert lines == []
    assert before == {file: file.read_bytes() for file in folder.glob("*.safetensors")}


def test_a_stage_goes_on_where_it_stopped(tmp_path: Path) -> None:
    folder, module = TrainingFolder(tmp_path), nn.Linear(2, 2)
    folder.save("vae", 0.4, "part", module)
    other = nn.Linear(2, 2)
    assert folder.load("part", other)
    assert torch.equal(other.weight, module.weight)
    pace = folder.pace("vae", minutes=10.0)
    assert 0.4 <= pace.done < 0.41
    assert folder.pace("transformer", minutes=10.0).done < 0.01


def test_prompts_of_a_batch_share_their_length_and_know_their_pictures(trained) -> None:
    folder, _ = trained
    renders = draw_renders((5,), 6, 128)
    batches = prompt_batches(renders.codes, renders.boxes, folder, 3, seed=0, workers=0)
    for _ in range(20):
        batch = next(batches)
        assert batch.gemma.shape[0] == batch.jina.shape[0] == 3
        assert batch.place.shape == (*batch.gemma.shape, 2)
        assert torch.equal(batch.boxes, renders.boxes[batch.index])
        assert not batch.owned[:, 0].any()
        assert batch.gemma.max() < CHIBI.gemma.vocab_size


def test_a_gallery_fills_with_what_its_seed_says() -> None:
    gallery = Gallery(5, 128, torch.device("cpu"))
    gallery.fill(seed=3, workers=0, chunk=4)
    assert gallery.ready == 5
    first = draw_renders((3, 0), 4, 128)
    assert torch.equal(gallery.pixels[:4], first.pixels)
    assert np.array_equal(gallery.codes[:4], first.codes)


def test_faces_weigh_most_and_times_lean_towards_noise() -> None:
    renders = draw_renders((6,), 2, 128)
    weight = importance(renders.boxes, 32)
    x0, y0, x1, y1 = renders.boxes[0, 0, 1] * 32
    assert weight[0, int((y0 + y1) / 2), int((x0 + x1) / 2)] == weight.max() > weight.min() == 1
    t = sample_times(20_000, torch.device("cpu"))
    assert 0 <= t.min() < t.max() <= 1
    assert 0.1 < (t < 0.05).float().mean() < 0.25
    assert t.mean() < 0.45
