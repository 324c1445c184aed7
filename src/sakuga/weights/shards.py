"""Where weights lie: a file, an index and its shards, or a folder that holds either."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from sakuga.errors import ModelNotFound
from sakuga.weights.header import CONVERT, MAX_HEADER, Header
from sakuga.weights.untrusted import MAX_NAME, confine, corrupt, parse_json, short

INDEX = ".safetensors.index.json"
FROM_TORCH = (".bin", ".pt", ".pth", ".ckpt")  # how files of torch.save are called
CONVENTIONAL = ("model.safetensors", "diffusion_pytorch_model.safetensors")


def locate_file(path: Path, root: Path | None, choose: Callable[[Path], Path]) -> Path:
    """The file that a path is, or that `choose` finds in a folder, which leads nowhere else.

    root: as `Store.open` takes it. Raises ModelNotFound, CorruptFile.
    """
    if path.is_file():
        return path
    if not path.is_dir():
        other = path.exists() or path.is_symlink()
        got = f"{path}, which is neither" if other else f"no such path {path}"
        raise ModelNotFound("weights are a file or a folder", got, "Check the path")
    confine(path, root or path)
    file = choose(path)
    if not file.is_file():
        raise corrupt(file, "weights are a file", "a link to nowhere, or a device,")
    confine(file, root or path)
    return file


def read_index(
    index: Path, root: Path, endings: tuple[str, ...]
) -> tuple[dict[str, str], tuple[Path, ...]]:
    """What an index says of each tensor, the name of its shard, and the shards, within `root`.

    endings: of their names. Raises CorruptFile where a shard is missing, or lies elsewhere.
    """
    if index.stat().st_size > MAX_HEADER:
        got = f"{index.stat().st_size} bytes"
        raise corrupt(index, f"an index has at most {MAX_HEADER} bytes", got)
    weight_map = parse_json(index.read_bytes(), str(index)).get("weight_map")
    if (
        not isinstance(weight_map, dict)
        or not weight_map
        or not all(isinstance(name, str) for name in weight_map.values())
    ):
        raise corrupt(index, "weight_map maps tensor names to file names", short(weight_map))
    names = sorted(set(weight_map.values()))
    for name in names:
        plain = name.isprintable() and "\\" not in name and len(name.encode()) <= MAX_NAME
        if not plain or not name.endswith(endings) or Path(name).name != name:
            rule = f"a shard is a {' or '.join(endings)} file beside its index"
            raise corrupt(index, rule, short(name))
        file = index.parent / name
        if not file.is_file():
            raise corrupt(index, "every shard is there", f"no {name}")
        confine(file, root)
    return weight_map, tuple(index.parent / name for name in names)


def check_index(index: Path, weight_map: Mapping[str, str], headers: Mapping[Path, Header]) -> None:
    """Raise CorruptFile unless an index and its shards list the same tensors."""
    found = {(key, file.name) for file, header in headers.items() for key in header.infos}
    odd = sorted(found ^ set(weight_map.items()))
    if odd:
        key, name = odd[0]
        where = "the index" if (key, name) in found else name
        raise corrupt(
            index,
            "index and shards list the same tensors",
            f"{short(key)} of {name} missing from {where} ({len(odd)} such)",
        )


def weights_in(folder: Path) -> Path:
    """The one file or index of a folder."""
    names = sorted(entry.name for entry in folder.iterdir() if not entry.is_dir())
    choices = [name for name in names if name.endswith(INDEX)]
    choices = choices or [name for name in CONVENTIONAL if name in names]
    for kind in (".safetensors", ".gguf"):
        choices = choices or [name for name in names if name.endswith(kind)]
    if len(choices) == 1:
        return folder / choices[0]
    rule = "a folder of weights holds one .safetensors or .gguf file, or shards with one index"
    if choices:
        raise ModelNotFound(rule, f"{', '.join(choices)} in {folder}", "Keep the one you mean")
    found = ", ".join(names) or "nothing"
    fix = (
        CONVERT
        if any(n.endswith(FROM_TORCH) for n in names)
        else "Check the path, or download the weights"
    )
    raise ModelNotFound(rule, f"{found} in {folder}", fix)
