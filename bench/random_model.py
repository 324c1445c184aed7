"""Writes a model folder of random weights, so that the whole path runs at the real size.

    python bench/random_model.py FOLDER [--tiny]

It opens and draws as a released model would; what it draws is noise. The tokenizers are those of
the embedded model, whose few ids every larger vocabulary has too.
"""

from __future__ import annotations

import argparse
import shutil
from dataclasses import asdict
from pathlib import Path

from measured import REAL, TINY, Scale, build, clean

from sakuga.checkpoint.catalog import locate
from sakuga.checkpoint.save import save_component, write_json
from sakuga.model.nextdit import NextDiT
from sakuga.model.text import GemmaEncoder, JinaEncoder
from sakuga.model.vae import VAE


def write_random_model(folder: Path, scale: Scale) -> int:
    """Write all components in the dtype of `scale`; give their bytes."""
    spec = scale.spec
    parts = {
        "transformer": (NextDiT, spec.transformer),
        "text_encoder": (GemmaEncoder, spec.gemma),
        "vae": (VAE, spec.vae),
    }
    tokenizers = ["tokenizer"]
    if spec.jina:
        parts["text_encoder_2"] = (JinaEncoder, spec.jina)
        tokenizers.append("tokenizer_2")
    size = 0
    for name, (make, part) in parts.items():
        state = build(make, part, scale).state_dict()
        size += save_component(folder / name, part, state, scale.storage)
        del state
        clean()
    for name in tokenizers:
        shutil.copytree(locate("chibi") / name, folder / name, dirs_exist_ok=True)
    ours = {"name": f"random-{spec.name}", "drawing": asdict(spec.drawing)}
    write_json(folder / "model_index.json", {"sakuga": ours})
    return size


def main() -> None:
    """Write, and say how much."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--tiny", action="store_true", help="the embedded model's size, on the CPU")
    options = parser.parse_args()
    size = write_random_model(options.folder, TINY if options.tiny else REAL)
    print(f"{size / 1e9:.2f} GB in {options.folder}")


if __name__ == "__main__":
    main()
