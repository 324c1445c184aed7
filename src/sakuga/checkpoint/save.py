"""Writes components the way others read them: config.json beside one safetensors file."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

from sakuga.checkpoint.families.tables import config_of
from sakuga.errors import RequestError, SakugaError
from sakuga.files.atomic import build_atomically
from sakuga.model.spec import GemmaSpec, JinaSpec, NextDiTSpec, VAESpec
from sakuga.weights.formats import FORMATS, StorageFormat, StoredTensor, scale_key, storage_metadata
from sakuga.weights.quantise import TORCH_DTYPES, quantise
from sakuga.weights.store import Store

Choice = Callable[[str, Tensor], StorageFormat]


def save_component(
    folder: Path,
    spec: NextDiTSpec | GemmaSpec | JinaSpec | VAESpec,
    state: Mapping[str, Tensor],
    storage: str | Choice = "float32",
    small: str = "float32",
) -> int:
    """Write config.json and weights of one component; give the bytes written.

    state: tensors by our names. storage: a format of `weights.formats` for all, or a
    choice per (name, tensor). small: the format of what a quantised format leaves out,
    tensors of fewer than two dimensions. Both files appear whole or not at all.
    """
    tensors: dict[str, Tensor] = {}
    stored: dict[str, StoredTensor] = {}
    for key, value in state.items():
        tensor = value.detach().cpu()
        form = FORMATS[storage] if isinstance(storage, str) else storage(key, tensor)
        if form.quantised and tensor.dim() < 2:
            form = FORMATS[small]
        if not tensor.is_floating_point():
            tensors[key] = tensor.contiguous()
        elif form.quantised:
            tensors[key], scale = quantise(tensor, form)
            assert scale is not None
            tensors[scale_key(key)] = scale
            stored[key] = StoredTensor(form, tuple(tensor.shape) if form.packed else None)
        else:
            tensors[key] = tensor.to(TORCH_DTYPES[form.dtype], copy=True).contiguous()
    name = (
        "model.safetensors"
        if isinstance(spec, GemmaSpec | JinaSpec)
        else "diffusion_pytorch_model.safetensors"
    )
    metadata = {"format": "pt", **storage_metadata(stored)}
    write_weights(folder / name, lambda file: save_file(tensors, file, metadata))
    write_json(folder / "config.json", config_of(spec))
    return (folder / name).stat().st_size


def bytes_of(tensor: Tensor) -> memoryview:
    """The values of a tensor on the CPU as the bytes (N,) that a file holds of them."""
    return tensor.contiguous().view(-1).view(torch.uint8).numpy().data


def write_weights(file: Path, build: Callable[[Path], object]) -> None:
    """Let `build` write a file of weights under the name it is given, whole or not at all.

    Folders that are missing are made. Raises SakugaError where the system cannot write there.
    """
    with writing(file):
        file.parent.mkdir(parents=True, exist_ok=True)
        build_atomically(file, build)


def write_json(file: Path, value: object) -> None:
    """Write JSON as people like to read it, whole or not at all. Raises SakugaError."""
    text = json.dumps(value, indent=2, ensure_ascii=False) + "\n"
    with writing(file):
        build_atomically(file, lambda path: path.write_text(text, encoding="utf-8"))


@contextlib.contextmanager
def writing(path: Path) -> Iterator[None]:
    """Raise SakugaError where the system cannot write what belongs at `path`."""
    try:
        yield
    except (OSError, SafetensorError) as error:  # safetensors has errors of its own for files
        raise SakugaError(
            "weights must be written whole",
            f"{getattr(error, 'strerror', None) or error} for {path}",
            "Nothing was left there; make room, or choose another place.",
        ) from None


def refuse_itself(outs: Iterable[Path], stores: Iterable[Store]) -> None:
    """Refuse to replace what is being read, with RequestError."""
    read = {file.resolve() for store in stores for file in store.files}
    for out in outs:
        if out.resolve() in read:
            raise RequestError(
                "a file does not replace what it is made of", f"{out}", "Write elsewhere."
            )
