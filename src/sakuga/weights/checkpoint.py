"""A model on disk: a folder in Hugging Face layout, opened, understood, not yet loaded.

    model_index.json      optional; its "sakuga" entry names the model and its drawing habits
    transformer/          config.json and weights, as in the other three
    text_encoder/         Gemma 3
    text_encoder_2/       Jina, or clip_model/ as in the original release
    vae/
    tokenizer/            tokenizer.json, or beside Gemma's weights
    tokenizer_2/          tokenizer.json, or beside Jina's weights
    vocabulary.json       optional; {"words": [...]}, what the model can draw

Only headers and small JSON files are read here; code files and `auto_map` entries that lie
in a folder are never looked at.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from sakuga.errors import CorruptFile, ModelNotFound, SpecMismatch
from sakuga.model.spec import NEWBIE_3_5B, DrawingSpec, ModelSpec
from sakuga.weights.digests import DigestCache
from sakuga.weights.formats import logical_shapes, read_storage_metadata
from sakuga.weights.layouts import Match, Piece, detect, rewrite
from sakuga.weights.specs import FAMILIES, OURS, compare, read_spec
from sakuga.weights.store import Store, confine, parse_json

FOLDERS: Mapping[str, tuple[str, ...]] = {
    "transformer": ("transformer",),
    "text_encoder": ("text_encoder",),
    "text_encoder_2": ("text_encoder_2", "clip_model"),
    "vae": ("vae",),
}
TOKENIZERS: Mapping[str, tuple[str, ...]] = {
    "tokenizer": ("tokenizer", "text_encoder"),
    "tokenizer_2": ("tokenizer_2", "clip_tokenizer", "text_encoder_2", "clip_model"),
}
CONFIG = "config.json"
MAX_CONFIG = 16_000_000


@dataclass(frozen=True, slots=True)
class Component:
    """One part of a model: its weights, how they are named, and what they are."""

    name: str
    store: Store
    match: Match
    spec: Any


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A model folder whose every component was found and understood."""

    path: Path
    spec: ModelSpec
    transformer: Component
    text_encoder: Component
    text_encoder_2: Component
    vae: Component

    @property
    def components(self) -> tuple[Component, ...]:
        """The four parts, in the order a drawing uses them."""
        return (self.text_encoder, self.text_encoder_2, self.transformer, self.vae)

    def tokenizer(self, name: str = "tokenizer") -> Path:
        """The tokenizer.json of Gemma ("tokenizer") or Jina ("tokenizer_2").

        Raises ModelNotFound where there is none.
        """
        places = [self.path / folder / "tokenizer.json" for folder in TOKENIZERS[name]]
        for file in places:
            if file.is_file():
                confine(file, self.path)
                return file
        raise ModelNotFound(
            f"a model has a tokenizer.json for its {name}",
            f"none at {', '.join(str(file) for file in places)}",
            "Copy the tokenizer.json that belongs to the encoder there",
        )

    def vocabulary(self) -> frozenset[str] | None:
        """The words the model can draw, or None where it does not say."""
        file = self.path / "vocabulary.json"
        if not file.is_file():
            return None
        words = read_json(file, self.path).get("words")
        if not isinstance(words, list) or not all(isinstance(word, str) for word in words):
            raise CorruptFile(
                "vocabulary.json holds a list of words", f"another thing in {file}", "Remove it"
            )
        return frozenset(words)

    def sha256(self, digests: DigestCache | None = None) -> dict[str, str]:
        """The digest of each component's weights, by component.

        digests: what remembers them between runs; without it each run hashes each file once.
        """
        digest = digests.of if digests else None
        return {part.name: part.store.sha256(digest) for part in self.components}


def open_checkpoint(path: str | os.PathLike[str]) -> Checkpoint:
    """Open a model folder: find its components, read their specs, compare.

    Raises ModelNotFound where something is missing (listing what is there and what is
    expected), CorruptFile or LayoutError where a file cannot be read, SpecMismatch where
    config, weights, or two components contradict each other.
    """
    path = Path(path)
    folders = _find(path)
    parts = {name: open_component(folder, name, path) for name, folder in folders.items()}
    name, drawing = _habits(path)
    spec = ModelSpec(
        name=name,
        transformer=parts["transformer"].spec,
        gemma=parts["text_encoder"].spec,
        jina=parts["text_encoder_2"].spec,
        vae=parts["vae"].spec,
        drawing=drawing,
    )
    _check_fit(spec, path)
    return Checkpoint(path, spec, **parts)


def open_component(path: Path, name: str, root: Path | None = None) -> Component:
    """Open one component from its folder or file.

    name: transformer | text_encoder | text_encoder_2 | vae. root: the folder that no link
    may lead out of, by default the component's own.
    """
    store = Store.open(path, root)
    match = detect(store.keys(), name)
    folder = path if path.is_dir() else path.parent
    configs = _configs(folder, store, root or folder)
    config, source = configs[0] if configs else (None, f"{folder / CONFIG} (which is not there)")
    formats = read_storage_metadata(store.metadata)
    shapes = logical_shapes(store.shapes(), store.dtypes(), formats)
    made, _ = rewrite(match, shapes)
    ours = {piece.target: piece.shape for piece in made}
    spec = read_spec(FAMILIES[name], config, source, ours, str(store.path))
    for other, place in configs[1:]:
        compare(FAMILIES[name], spec, source, other, place)
    return Component(name, store, match, spec)


def pieces_of(component: Component) -> dict[str, Piece]:
    """How each tensor, by our name for it, is made of the file's. Reads no more than headers."""
    store = component.store
    formats = read_storage_metadata(store.metadata)
    shapes = logical_shapes(store.shapes(), store.dtypes(), formats)
    made, _ = rewrite(component.match, shapes)
    return {piece.target: piece for piece in made}


def read_json(file: Path, root: Path) -> dict[str, Any]:
    """A JSON object from a file within `root`. Raises CorruptFile on anything else."""
    confine(file, root)
    if file.stat().st_size > MAX_CONFIG:
        raise CorruptFile(
            f"a config has at most {MAX_CONFIG} bytes",
            f"{file.stat().st_size} bytes in {file}",
            "Use the config that belongs to these weights",
        )
    return parse_json(file.read_bytes(), str(file))


def _configs(folder: Path, store: Store, root: Path) -> list[tuple[dict[str, Any], str]]:
    """The configs of a component, each with where it comes from; the first one counts."""
    configs = []
    file = folder / CONFIG
    if file.is_file():
        configs.append((read_json(file, root), str(file)))
    if "config" in store.metadata:
        source = f"the metadata of {store.path}"
        text = store.metadata["config"].encode("utf-8", "surrogatepass")
        configs.append((parse_json(text, source), source))
    return configs


def _find(path: Path) -> dict[str, Path]:
    """The folder of each component."""
    rule = "a model is a folder with " + ", ".join(names[0] for names in FOLDERS.values())
    fix = "Check the path, or download what is missing"
    if not path.is_dir():
        what = "a file" if path.exists() else "nothing"
        raise ModelNotFound(rule, f"{what} at {path}", fix)
    found: dict[str, Path] = {}
    for name, folders in FOLDERS.items():
        for folder in folders:
            if (path / folder).is_dir():
                found.setdefault(name, path / folder)
    missing = [" or ".join(FOLDERS[name]) for name in FOLDERS if name not in found]
    if missing:
        there = ", ".join(sorted(entry.name for entry in path.iterdir())[:20]) or "nothing"
        raise ModelNotFound(rule, f"no {', no '.join(missing)} among {there} in {path}", fix)
    return found


def _habits(path: Path) -> tuple[str, DrawingSpec]:
    """The name and drawing defaults of model_index.json, else those of the real model."""
    file = path / "model_index.json"
    ours: Any = read_json(file, path).get(OURS, {}) if file.is_file() else {}
    if not isinstance(ours, dict):
        raise _odd(file, f'"{OURS}" is a set of named values', ours)
    name, drawing = ours.get("name", path.resolve().name), ours.get("drawing", {})
    if not isinstance(name, str) or not isinstance(drawing, dict):
        raise _odd(file, "a model has a name and a set of drawing defaults", ours)
    values = {}
    for key, value in drawing.items():
        values[key] = _drawing_value(file, key, value)
    spec = replace(NEWBIE_3_5B.drawing, **values)
    shorter, longer = sorted((spec.width, spec.height))
    if not spec.min_side <= shorter <= longer <= spec.max_side:
        raise _odd(file, "width and height lie between min_side and max_side", drawing)
    return name, spec


def _drawing_value(file: Path, key: str, value: Any) -> Any:
    kinds = {field.name: field.type for field in fields(DrawingSpec)}
    if key not in kinds:
        near = get_close_matches(key, kinds, n=1)
        hint = f" (nearest: {near[0]!r})" if near else ""
        raise _odd(file, f"a drawing default is one of {', '.join(kinds)}", f"{key!r}{hint}")
    if kinds[key] == "float" and type(value) is int:
        value = float(value)
    if type(value).__name__ != kinds[key]:
        raise _odd(file, f"{key} is of type {kinds[key]}", value)
    if kinds[key] != "str" and not 0 <= value < 2**31:
        raise _odd(file, f"{key} is finite and not negative", value)
    return value


def _check_fit(spec: ModelSpec, path: Path) -> None:
    """The transformer must take what the encoders give and the autoencoder reads."""
    taken, gemma, jina, vae = spec.transformer, spec.gemma, spec.jina, spec.vae
    pairs = (
        ("cap_feat_dim", taken.cap_feat_dim, "hidden_size of text_encoder", gemma.hidden_size),
        ("clip_text_dim", taken.clip_text_dim, "hidden_size of text_encoder_2", jina.hidden_size),
        ("in_channels", taken.in_channels, "latent_channels of vae", vae.latent_channels),
    )
    for ours, wanted, theirs, got in pairs:
        if wanted != got:
            raise SpecMismatch(
                "the components of a model fit together",
                f"{ours} {wanted} of transformer, {theirs} {got} in {path}",
                "Use components that were trained together",
            )


def _odd(file: Path, rule: str, value: object) -> SpecMismatch:
    text = value if isinstance(value, str) else repr(value)
    return SpecMismatch(rule, f"{text[:200]} in {file}", "Correct or remove the entry")
