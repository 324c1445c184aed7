"""Write a LoRA of random factors for the embedded transformer: some_lora.py FILE."""

from __future__ import annotations

import json
import struct
import sys
from pathlib import Path

import sakuga

MODEL = Path(sakuga.__file__).parent / "chibi" / "model" / "transformer"


def linears(file: Path) -> dict[str, tuple[int, int]]:
    """Rows and columns of the attention's projections, by the header of the file."""
    data = file.read_bytes()
    header = json.loads(data[8 : 8 + struct.unpack("<Q", data[:8])[0]])
    return {
        key.removesuffix(".weight"): tuple(value["shape"])
        for key, value in header.items()
        if key.endswith("attention.out.weight")
    }


def main(out: Path) -> None:
    """Seeded, so that every run writes the same."""
    import torch  # noqa: PLC0415
    from safetensors.torch import save_file  # noqa: PLC0415

    draw = torch.Generator().manual_seed(0)
    tensors = {}
    (weights,) = MODEL.glob("*.safetensors")
    for name, (rows, columns) in linears(weights).items():
        tensors[f"transformer.{name}.lora_A.weight"] = torch.randn(4, columns, generator=draw) / 16
        tensors[f"transformer.{name}.lora_B.weight"] = torch.randn(rows, 4, generator=draw) / 16
        tensors[f"transformer.{name}.alpha"] = torch.tensor(4.0)
    save_file(tensors, out)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
