"""Writes components the way others read them: config.json beside one safetensors file."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

from sakuga.checkpoint.specs.families import config_of
from sakuga.errors import OutputExists, RequestError, SakugaError
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
    folder.mkdir(parents=True, exist_ok=True)
    name = (
        "model.safetensors"
        if isinstance(spec, GemmaSpec | JinaSpec)
        else "diffusion_pytorch_model.safetensors"
    )
    metadata = {"format": "pt", **storage_metadata(stored)}
    write_atomically(folder / name, lambda file: save_file(tensors, file, metadata))
    write_json(folder / "config.json", config_of(spec))
    return (folder / name).stat().st_size


def bytes_of(tensor: Tensor) -> memoryview:
    """The values of a tensor on the CPU as the bytes (N,) that a file holds of them."""
    return tensor.contiguous().view(-1).view(torch.uint8).numpy().data


def write_json(file: Path, value: object) -> None:
    """Write JSON as people like to read it, whole or not at all."""
    text = json.dumps(value, indent=2, ensure_ascii=False) + "\n"
    write_atomically(file, lambda path: path.write_text(text, encoding="utf-8"))


def write_atomically(file: Path, write: Callable[[Path], object]) -> None:
    """Let `write` make a file of that name in a folder beside it, then put it in its place.

    Raises SakugaError where the system cannot write there.
    """
    with writing(file), TemporaryDirectory(dir=file.parent, prefix=f".{file.name}.") as folder:
        draft = Path(folder) / file.name
        write(draft)
        os.chmod(draft, 0o644)
        os.replace(draft, file)


def make_folder(folder: Path) -> None:
    """Make a folder, and those that it lies in. Raises SakugaError where the system cannot."""
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)


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


def refuse_existing(path: Path, *, force: bool) -> None:
    """Refuse to write over a file unless told to, and over a folder, with OutputExists."""
    with writing(path):
        there, folder = path.exists() or path.is_symlink(), path.is_dir()
    if folder:
        raise OutputExists("one file is written", f"the folder {path}", "Choose another name.")
    if there and not force:
        raise OutputExists(
            "a file is never overwritten unasked", str(path), "Use --force, or another name."
        )


def refuse_itself(outs: Iterable[Path], stores: Iterable[Store]) -> None:
    """Refuse to replace what is being read, with RequestError."""
    read = {file.resolve() for store in stores for file in store.files}
    for out in outs:
        if out.resolve() in read:
            raise RequestError(
                "a file does not replace what it is made of", f"{out}", "Write elsewhere."
            )
