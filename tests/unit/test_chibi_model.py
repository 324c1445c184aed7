"""The embedded model as it ships: its judge, its package, and what it draws."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from sakuga.checkpoint.catalog import EMBEDDED_FOLDER
from sakuga.checkpoint.folder import open_checkpoint
from sakuga.checkpoint.manifest import MANIFEST, Promise, read_manifest
from sakuga.chibi.data import draw_renders
from sakuga.chibi.judge import hits
from sakuga.chibi.measure import Painter, measure, psnr
from sakuga.chibi.package import JUDGE_FILE, open_judge, pack, unpack
from sakuga.chibi.vocabulary import WORDS
from sakuga.engine.networks import Networks
from sakuga.model.spec import CHIBI
from sakuga.weights.sha256 import hash_file

UNSEEN = 2**31 + 7


@pytest.fixture(scope="module")
def renders():
    return draw_renders((UNSEEN,), 24)


@pytest.fixture(scope="module")
def models():
    return Networks(open_checkpoint(EMBEDDED_FOLDER), "float32")


def test_the_packaged_model_is_the_preset(models: Networks) -> None:
    assert models.checkpoint.spec == CHIBI


def test_model_and_judge_stay_within_32_mib() -> None:
    files = [*EMBEDDED_FOLDER.rglob("*"), JUDGE_FILE]
    assert sum(file.stat().st_size for file in files if file.is_file()) <= 32 * 2**20


def test_the_vocabulary_file_lists_every_word_taught() -> None:
    words = json.loads((EMBEDDED_FOLDER / "vocabulary.json").read_text())["words"]
    assert set(words) == WORDS


def test_the_judge_reads_held_out_renders(renders) -> None:
    pixels = renders.pixels.float() / 127.5 - 1
    read = hits(open_judge(), pixels, renders.boxes[:, :, 0], renders.codes)
    right = torch.cat([one.flatten() for one in read.values()])
    assert right.nanmean() >= 0.99


def test_a_judge_that_looks_elsewhere_is_wrong(renders) -> None:
    """The boxes matter: mirrored, they show other figures or none."""
    pixels = renders.pixels.float() / 127.5 - 1
    x0, y0, x1, y1 = renders.boxes[:, :, 0].unbind(-1)
    mirrored = torch.stack((1 - x1, y0, 1 - x0, y1), dim=-1)
    several = renders.codes[:, 0] > 1
    read = hits(open_judge(), pixels[several], mirrored[several], renders.codes[several])
    assert read["hair_color"].nanmean() < 0.7


def test_the_autoencoder_keeps_31_decibels(models: Networks, renders) -> None:
    pixels = renders.pixels[:6].float() / 127.5 - 1
    assert psnr(models["vae"], pixels) >= 31


def test_drawings_show_what_prompts_say() -> None:
    score = measure(Painter.packaged("cpu"), open_judge(), 2, 3, UNSEEN)
    assert score.binding >= 0.85
    assert score.slots["hair_color"] == 1


@pytest.mark.long
def test_unpacked_and_packed_again_the_package_is_the_same(tmp_path: Path, renders) -> None:
    unpack(tmp_path / "shelf")
    judge = tmp_path / "judge.safetensors"
    pack(tmp_path / "shelf", renders, tmp_path / "model", judge)
    assert judge.read_bytes() == JUDGE_FILE.read_bytes()
    made, shipped = (read_manifest(one) for one in (tmp_path / "model", EMBEDDED_FOLDER))
    assert set(made.files) == set(shipped.files)
    for file in EMBEDDED_FOLDER.rglob("*.safetensors"):
        again = load_file(tmp_path / "model" / file.relative_to(EMBEDDED_FOLDER))
        for key, value in load_file(file).items():
            torch.testing.assert_close(again[key].float(), value.float(), rtol=1e-5, atol=0)


def test_the_package_promises_what_every_file_is() -> None:
    manifest = read_manifest(EMBEDDED_FOLDER)
    there = {
        path.relative_to(EMBEDDED_FOLDER).as_posix(): Promise(hash_file(path), path.stat().st_size)
        for path in EMBEDDED_FOLDER.rglob("*")
        if path.is_file() and path.name != MANIFEST
    }
    assert manifest is not None
    assert manifest.files == there
