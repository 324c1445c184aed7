"""Training, as a smoke test: every stage runs, stops, and goes on from what it saved."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from sakuga.chibi.data import Gallery, Lesson, draw_renders, prompt_batches
from sakuga.chibi.losses import importance, sample_times
from sakuga.chibi.progress import TrainingFolder
from sakuga.chibi.regime import REAL, SMOKE, Sized
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
    lesson = Lesson.open(folder, torch.device("cpu"))
    batches = prompt_batches(lesson, folder, 4, seed=0, workers=0)
    seen = set()
    for _ in range(40):
        batch = next(batches)
        seen.add(batch.pool)
        assert batch.gemma.shape[0] == batch.jina.shape[0] == lesson.batch_of(batch.pool, 4)
        assert batch.place.shape == (*batch.gemma.shape, 2)
        assert torch.equal(batch.boxes, lesson.boxes[batch.pool][batch.index])
        assert not batch.owned[:, 0].any()
        assert batch.gemma.max() < CHIBI.gemma.vocab_size
    assert seen == {0, 1}


def test_a_gallery_fills_with_what_its_seed_says() -> None:
    sizes = (Sized((128, 128), 5 / 7), Sized((192, 128), 2 / 7))
    gallery = Gallery(7, sizes, torch.device("cpu"))
    gallery.fill(seed=3, workers=0, chunk=4)
    usual, wide = gallery.pools
    assert (usual.ready, wide.ready) == (5, 2)
    first, second = draw_renders((3, 0), 4, (128, 128)), draw_renders((3, 1), 4, (192, 128))
    assert torch.equal(usual.pixels[:4], first.pixels)
    assert np.array_equal(usual.codes[:4], first.codes)
    assert torch.equal(wide.pixels, second.pixels[:2])
    assert torch.equal(wide.boxes, second.boxes[:2])


def test_the_model_says_what_sizes_it_was_trained_on() -> None:
    sizes = [f"{width}x{height}" for width, height in (one.size for one in REAL.sizes)]
    assert CHIBI.drawing.trained_sizes.split() == sizes
    assert sum(one.share for one in REAL.sizes) == pytest.approx(1)


def test_faces_weigh_most_and_times_lean_towards_noise() -> None:
    renders = draw_renders((6,), 2, (128, 128))
    weight = importance(renders.boxes, (32, 32))
    x0, y0, x1, y1 = renders.boxes[0, 0, 1] * 32
    assert weight[0, int((y0 + y1) / 2), int((x0 + x1) / 2)] == weight.max() > weight.min() == 1
    t = sample_times(20_000, torch.device("cpu"))
    assert 0 <= t.min() < t.max() <= 1
    assert 0.1 < (t < 0.05).float().mean() < 0.25
    assert t.mean() < 0.45
