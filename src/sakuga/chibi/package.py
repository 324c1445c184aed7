"""Between the trainer's folder and the package: the embedded model as a checkpoint, and back."""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from sakuga.checkpoint.catalog import EMBEDDED_FOLDER
from sakuga.checkpoint.folder import open_checkpoint
from sakuga.checkpoint.manifest import MANIFEST, write_manifest
from sakuga.checkpoint.save import save_component, write_json, write_weights
from sakuga.chibi.data import Renders
from sakuga.chibi.judge import Judge
from sakuga.chibi.vocabulary import WORDS
from sakuga.engine.decode import fit_preview
from sakuga.engine.networks import Networks
from sakuga.model.spec import CHIBI, GemmaSpec, JinaSpec, NextDiTSpec, VAESpec
from sakuga.model.vae import VAE

JUDGE_FILE = Path(__file__).parent / "judge.safetensors"
TOKENIZERS = ("tokenizer", "tokenizer_2")
# Where the trainer keeps each network: its file there, and the prefix of its tensors.
_SHELVED = {
    "transformer": ("text2velocity", "transformer."),
    "text_encoder": ("text2velocity", "gemma.model."),
    "text_encoder_2": ("text2velocity", "jina.model."),
    "vae": ("vae", ""),
}


def pack(
    shelf: Path, renders: Renders, model: Path = EMBEDDED_FOLDER, judge: Path = JUDGE_FILE
) -> int:
    """Write what was trained in `shelf` as a checkpoint in `model`, matrices in 8 bits.

    `renders`: pictures to fit the preview on. `judge`: the file of the judge, in 16 bits. Returns
    the bytes of all weights written.
    """
    scale = json.loads((shelf / "vae.json").read_text())
    vae_spec = dataclasses.replace(CHIBI.vae, **scale)
    assert CHIBI.jina is not None
    specs: dict[str, NextDiTSpec | GemmaSpec | JinaSpec | VAESpec] = {
        "transformer": CHIBI.transformer,
        "text_encoder": CHIBI.gemma,
        "text_encoder_2": CHIBI.jina,
        "vae": vae_spec,
    }
    written = 0
    for name, (file, prefix) in _SHELVED.items():
        state = _part(load_file(shelf / f"{file}.safetensors"), prefix)
        written += save_component(model / name, specs[name], state, "int8")
    for name in TOKENIZERS:
        (model / name).mkdir(parents=True, exist_ok=True)
        shutil.copyfile(shelf / name / "tokenizer.json", model / name / "tokenizer.json")
    write_json(model / "vocabulary.json", {"words": sorted(WORDS)})
    vae = VAE(vae_spec)
    vae.load_state_dict(load_file(shelf / "vae.safetensors"))
    write_json(model / "model_index.json", _index(vae, renders))
    files = (path for path in model.rglob("*") if path.is_file() and path.name != MANIFEST)
    write_manifest(model, files)
    half = {k: v.half() for k, v in load_file(shelf / "judge.safetensors").items()}
    write_weights(judge, lambda path: save_file(half, path))
    return written + judge.stat().st_size


def unpack(shelf: Path, model: Path = EMBEDDED_FOLDER) -> None:
    """Lay the packaged networks out for more training: a start for optimisers made afresh."""
    shelf.mkdir(parents=True, exist_ok=True)
    checkpoint = open_checkpoint(model)
    networks = Networks(checkpoint, "float32")
    files: dict[str, dict[str, Tensor]] = {}
    for name, (file, prefix) in _SHELVED.items():
        inner = networks[name].model if prefix.endswith("model.") else networks[name]
        state = {f"{prefix}{key}": value for key, value in inner.state_dict().items()}
        files.setdefault(file, {}).update(state)
    files["judge"] = open_judge().state_dict()
    for file, tensors in files.items():
        contiguous = {key: value.contiguous().clone() for key, value in tensors.items()}
        save_file(contiguous, shelf / f"{file}.safetensors")
    for name in TOKENIZERS:
        (shelf / name).mkdir(exist_ok=True)
        shutil.copyfile(model / name / "tokenizer.json", shelf / name / "tokenizer.json")
    spec = checkpoint.spec.vae
    scale = {"scaling_factor": spec.scaling_factor, "shift_factor": spec.shift_factor}
    write_json(shelf / "vae.json", scale)
    write_json(shelf / "progress.json", {"vae": 1.0, "judge": 1.0})


def open_judge() -> Judge:
    """The judge that ships with the package, in float32."""
    judge = Judge().eval().requires_grad_(False)
    judge.load_state_dict({key: value.float() for key, value in load_file(JUDGE_FILE).items()})
    return judge


def _part(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}


@torch.inference_mode()
def _index(vae: VAE, renders: Renders) -> dict[str, object]:
    images = renders.pixels.float() / 127.5 - 1
    preview = fit_preview(torch.cat([vae.encode(part) for part in torch.split(images, 16)]), images)
    habits = {
        "name": CHIBI.name,
        "drawing": dataclasses.asdict(CHIBI.drawing),
        "preview": dataclasses.asdict(preview),
    }
    return {"_class_name": "NewbiePipeline", "_name_or_path": CHIBI.name, "sakuga": habits}
