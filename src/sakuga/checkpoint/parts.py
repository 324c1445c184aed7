"""Where the components of a model lie: a folder of each, or single files told by their tensors."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Collection, Iterable, Mapping
from pathlib import Path

from sakuga.checkpoint.families.detect import detect, held
from sakuga.errors import LayoutError, ModelNotFound
from sakuga.model.spec import TEXT_ENCODER_2
from sakuga.weights.archive import is_from_torch
from sakuga.weights.shards import FROM_TORCH
from sakuga.weights.store import Store
from sakuga.weights.translated import names
from sakuga.weights.untrusted import confine, reading

FOLDERS: Mapping[str, tuple[str, ...]] = {
    "transformer": ("transformer",),
    "text_encoder": ("text_encoder",),
    "text_encoder_2": ("text_encoder_2", "clip_model"),
    "vae": ("vae",),
}
SECOND = TEXT_ENCODER_2.name
RULE = "a model is a folder with " + ", ".join(names[0] for names in FOLDERS.values())
FIX = "Check the path, download what is missing, or name its file"
# Where single files lie beside the folder itself, by names that are written in any case.
SHELVES = frozenset(
    {"diffusion_models", "unet", "text_encoders", "text encoder", "clip", "vae", "models"}
)
KINDS = ("*.safetensors", "*.gguf")
ARCHIVES = tuple(f"*{ending}" for ending in FROM_TORCH)  # opened to be converted, and never else
Opener = Callable[[Path, Path | None], Store]


def is_model(path: Path, opens: Opener = Store.open, kinds: tuple[str, ...] = KINDS) -> bool:
    """Whether a path is a whole model, not the file or folder of one component.

    opens, kinds: as `checkpoint.folder.open_checkpoint` takes them.
    """
    folders = {name for names in FOLDERS.values() for name in names}
    with reading(path):
        if not path.is_dir():
            return False
        if any((path / name).is_dir() for name in folders) or len(_shelves(path)) > 1:
            return True
        return len(_single_files(path, FOLDERS, opens, kinds)) > 1


def find_parts(
    path: Path | None,
    given: Mapping[str, Path] | None = None,
    opens: Opener = Store.open,
    kinds: tuple[str, ...] = KINDS,
) -> dict[str, Path]:
    """The folder or file of each component of a model, or the given one; the transformer first.

    The second text encoder may be missing, as not every transformer reads one. given, opens,
    kinds: as `checkpoint.folder.open_checkpoint` takes them. Raises ModelNotFound, naming what
    is missing.
    """
    given = given or {}
    if unknown := given.keys() - FOLDERS.keys():
        raise ModelNotFound(f"a component is one of {', '.join(FOLDERS)}", repr(min(unknown)), FIX)
    if path is not None:
        with reading(path):
            what = "" if path.is_dir() else "a file" if path.exists() else "nothing"
        if what:
            raise ModelNotFound(RULE, f"{what} at {path}", FIX)
    found = {**({} if path is None else parts_in(path, given, opens, kinds)), **given}
    lacking = [name for name in FOLDERS if name not in found]
    if set(lacking) - {SECOND}:
        raise missing(lacking, path, kinds)
    return {name: found[name] for name in FOLDERS if name in found}


def missing(names: Iterable[str], path: Path | None, kinds: tuple[str, ...]) -> ModelNotFound:
    """The error for components that are neither in a model's folder nor given."""
    entries = [] if path is None else sorted(entry.name for entry in path.iterdir())[:20]
    there = ", ".join(entries) or "nothing"
    where = "without a folder" if path is None else f"among {there} in {path}"
    lacking = (" or ".join(FOLDERS[name]) for name in names)
    archives = path is not None and kinds == KINDS and archives_in(path)
    fix = advice(path) if path is not None and archives else FIX
    return ModelNotFound(RULE, f"no {', no '.join(lacking)} {where}", fix)


def archives_in(path: Path) -> list[Path]:
    """The torch archives that lie where single files of a model do: converted, never opened."""
    files = (each for shelf in _shelves(path) for kind in ARCHIVES for each in shelf.glob(kind))
    return sorted(each for each in files if is_from_torch(each))


def advice(path: Path) -> str:
    """How the torch archives of a model's folder become what is opened."""
    new = f"{path.resolve().name}-safetensors"
    return (
        f"The torch archives there are opened once: `sakuga convert {path} {new} "
        "--layout diffusers` makes a model of them"
    )


def parts_in(
    path: Path,
    without: Collection[str] = (),
    opens: Opener = Store.open,
    kinds: tuple[str, ...] = KINDS,
) -> dict[str, Path]:
    """The components that a folder has, but those named: a folder of each, or a single file.

    opens, kinds: as `checkpoint.folder.open_checkpoint` takes them. Raises ModelNotFound where
    several files hold one.
    """
    lacking, found = [], dict[str, Path]()
    for name in [name for name in FOLDERS if name not in without]:
        place = next((path / one for one in FOLDERS[name] if (path / one).is_dir()), None)
        if place is None:
            lacking.append(name)
        else:
            found[name] = place
    found |= _single_files(path, lacking, opens, kinds) if lacking else {}
    return {name: found[name] for name in FOLDERS if name in found}


def folder_of(place: Path) -> Path:
    """The folder that a component is, or that its file is in."""
    with reading(place):
        return place if place.is_dir() else place.parent


def _single_files(
    path: Path, wanted: Collection[str], opens: Opener, kinds: tuple[str, ...]
) -> dict[str, Path]:
    """The files of a folder that hold wanted components, told by their tensors."""
    files: dict[str, list[Path]] = {}
    for shelf in _shelves(path):
        for file in sorted(each for kind in kinds for each in shelf.glob(kind)):
            confine(file, path)
            with contextlib.suppress(LayoutError):  # an adapter, or a file of another model
                for component in components_of(opens(file, path)):
                    files.setdefault(component, []).append(file)
    for name in wanted:
        if len(files.get(name, ())) > 1:
            raise ModelNotFound(
                f"a model has one {name}", " and ".join(map(str, files[name])),
                "Name the one you mean, or keep it alone",
            )  # fmt: skip
    return {name: files[name][0] for name in wanted if name in files}


def components_of(store: Store) -> tuple[str, ...]:
    """The component that a file holds, or all of an all-in-one file. Raises LayoutError."""
    keys = names(store)
    several = held(keys)
    return several if len(several) > 1 else (detect(keys).layout.component,)


def _shelves(path: Path) -> list[Path]:
    """A folder, and those within that hold single files."""
    within = (one for one in sorted(path.iterdir()) if one.name.lower() in SHELVES and one.is_dir())
    return [path, *within]
