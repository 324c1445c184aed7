"""An adapter from a torch archive, or with its config apart, as one safetensors file."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch

from sakuga.adapters.config import DIFFUSERS_CONFIG
from sakuga.adapters.file import Adapter
from sakuga.adapters.fit import assumption
from sakuga.checkpoint.bind import read_tensor
from sakuga.checkpoint.contents import gathered
from sakuga.checkpoint.save import refuse_itself, write_weights, writing
from sakuga.errors import CorruptFile, LayoutError, RequestError
from sakuga.files.atomic import refuse_existing
from sakuga.printable import listed, shown
from sakuga.weights.gguf import BLOCKS
from sakuga.weights.untrusted import read_json
from sakuga.weights.writer import Promised, write_tensors


@dataclass(frozen=True, slots=True)
class WrittenAdapter:
    """An adapter's file that was written.

    assumed: what was taken for granted of it, and how to say otherwise; empty where nothing
    was. beside: what else the source held, with the reason why it was left out.
    """

    file: str
    bytes: int
    sha256: str
    modules: int
    assumed: str
    beside: Mapping[str, str]

    def __str__(self) -> str:
        count = f"{self.modules} module{'s' * (self.modules != 1)}"
        lines = [f"adapter -> {self.file}: {count} under the names they had, {self.bytes:,} bytes"]
        lines += [f"  {self.assumed}"] * bool(self.assumed)
        lines += [f"  left out: {line}" for line in gathered(self.beside)]
        return "\n".join(map(shown, lines))


def convert_adapter(adapter: Adapter, out: Path, *, force: bool = False) -> WrittenAdapter:
    """Write an adapter as one safetensors file: its tensors as they are, under their names.

    What its config says goes into the metadata, where `read_adapter` finds it, so that alpha is
    not lost. Raises RequestError where `out` is no .safetensors file or would replace what it
    is made of, OutputExists unless `force`, LayoutError for GGUF, CorruptFile where a factor is
    not finite, and SakugaError where the system cannot write the file.
    """
    store = adapter.store
    if out.suffix != ".safetensors":
        raise RequestError("an adapter is written to a .safetensors file", f"{out}", "Name one.")
    with writing(out):
        refuse_existing(out, replace=force)
    refuse_itself([out], [store])
    if not BLOCKS.keys().isdisjoint(store.dtypes().values()):
        raise LayoutError(
            "an adapter is read from safetensors or a torch archive",
            f"{store.path}, in GGUF's blocks",
            "Use its safetensors release",
        )
    for key in (key for part in adapter.parts for key in part.tensors.values()):
        if not torch.isfinite(read_tensor(store, key).float()).all():
            raise CorruptFile(
                "the factors of an adapter are finite numbers",
                f"NaN or infinity in {listed([key])} of {store.path}",
                "Download or train the adapter again",
            )
    metadata = {"format": "pt"} | store.metadata
    if adapter.config is not None:
        config = read_json(adapter.config, adapter.config.parent)
        metadata[DIFFUSERS_CONFIG] = json.dumps(config)
    infos = {key: store.info(key) for key in store}
    promised = {key: Promised(info.dtype, info.shape) for key, info in infos.items()}
    digest = ""

    def write(file: Path) -> None:
        nonlocal digest
        digest = write_tensors(file, promised, metadata, lambda key: (store.view(key),))

    write_weights(out, write)
    return WrittenAdapter(
        file=str(out),
        bytes=out.stat().st_size,
        sha256=digest,
        modules=len(adapter.parts),
        assumed=assumption(adapter),
        beside=store.dropped,
    )
