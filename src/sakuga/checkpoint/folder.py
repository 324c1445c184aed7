"""A model on disk: a folder in Hugging Face layout, opened, understood, not yet loaded.

    model_index.json      optional; its "sakuga" entry names the model and its drawing defaults
    transformer/          config.json and weights, as in the other three
    text_encoder/         Gemma 3; Gemma 2 of Lumina-Image 2.0 and its kin
    text_encoder_2/       Jina, or clip_model/ as in the original release; none in that kin
    vae/
    tokenizer/            tokenizer.json or tokenizer.model, or beside or within Gemma's weights
    tokenizer_2/          tokenizer.json or tokenizer.model, or beside or within Jina's weights
    vocabulary.json       optional; {"words": [...]}, what the model can draw

Single files are as welcome, in the folder itself or where node-graph programs keep them
(diffusion_models/ or unet/, text_encoders/ or clip/, vae/; Unet/, Text Encoder/, VAE/): which
component one holds is told by its tensors.
Any component may also come from elsewhere, and all may.

Only headers and small JSON files are read here; code files and `auto_map` entries that lie
in a folder are never looked at.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from sakuga.api.engine_spec import EngineSpec
from sakuga.checkpoint.catalog import locate
from sakuga.checkpoint.contents import Contents, made_of, read_shapes
from sakuga.checkpoint.families.detect import recognise
from sakuga.checkpoint.families.family import compare, read_spec
from sakuga.checkpoint.families.jina import baked_adapter
from sakuga.checkpoint.families.match import Match
from sakuga.checkpoint.families.tables import FAMILIES
from sakuga.checkpoint.model_index import ModelIndex, read_model_index, title_of
from sakuga.checkpoint.parts import KINDS, SECOND, Opener, find_parts, folder_of, missing
from sakuga.checkpoint.tokenizer import carried
from sakuga.checkpoint.tokenizer_file import FILES, own_file
from sakuga.checkpoint.vocabulary import vocabulary
from sakuga.errors import CorruptFile, ModelNotFound, SpecMismatch
from sakuga.model.inventory import Inventory, Shapes, inventory_of, weights_of
from sakuga.model.spec import COMPONENTS, ModelSpec, preset_of
from sakuga.tokenizer.sentencepiece import SentencePieceModel
from sakuga.weights.formats import FORMATS, StorageFormat
from sakuga.weights.store import Store
from sakuga.weights.translated import Translated, translated
from sakuga.weights.untrusted import parse_json, read_json

ENCODERS = {"tokenizer": "text_encoder", "tokenizer_2": "text_encoder_2"}
TOKENIZERS: Mapping[str, tuple[str, ...]] = {
    "tokenizer": ("tokenizer", "text_encoder"),
    "tokenizer_2": ("tokenizer_2", "clip_tokenizer", "text_encoder_2", "clip_model"),
}
CONFIG = "config.json"
QUANTISATION = "quantization_config.json"
AUTO_MAP = "auto_map"  # in a config: the code that transformers would download and run for it
CODE = frozenset({".py", ".pyc", ".pyd", ".so", ".dll", ".sh", ".ipynb"})


def open_model(spec: EngineSpec) -> Checkpoint:
    """The model of a spec; where parts make a whole one there is no other.

    Raises ModelNotFound, WeightsError.
    """
    given = {one.name: getattr(spec, one.field) for one in COMPONENTS.values()}
    parts = {name: Path(place) for name, place in given.items() if place is not None}
    return open_checkpoint(None if spec.source is None else locate(spec.source), parts)


def read_inventory(checkpoint: Checkpoint) -> Inventory:
    """The inventory of an opened model. Reads no more than its headers."""
    formats = {part.name: stored_formats(part) for part in checkpoint.components}
    return inventory_of(checkpoint.spec, formats)


def stored_formats(component: Component) -> dict[str, StorageFormat]:
    """The format of every tensor in a component's file, by our names.

    A tensor made of several, or lying in a type that no card computes in, counts as the
    float32 it is read as.
    """
    formats = {key: each.form for key, each in component.stored.items()}
    plain = {form.dtype: form for form in FORMATS.values() if not form.quantised}
    for key, dtype in component.store.dtypes().items():
        formats.setdefault(key, plain.get(dtype, FORMATS["float32"]))
    return {
        name: FORMATS["float32"]
        if piece.adapter is not None
        else max((formats[key] for key in piece.sources), key=lambda form: form.bits)
        for name, piece in component.pieces.items()
    }


@dataclass(frozen=True, slots=True)
class Component(Contents):
    """One part of a model: its weights, how they are named, what they are, where they came from.

    `place`: the folder or file that was opened.
    """

    name: str
    spec: Any
    place: Path


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A model whose every component was found and understood.

    `path`: its folder; where every component comes from elsewhere, that of the transformer.
    `text_encoder_2`: None where the transformer takes no pooled text. `index`: what its
    model_index.json says.
    """

    path: Path
    spec: ModelSpec
    index: ModelIndex
    transformer: Component
    text_encoder: Component
    vae: Component
    text_encoder_2: Component | None = None

    @property
    def components(self) -> tuple[Component, ...]:
        """The parts, in the order a drawing uses them."""
        parts = (self.text_encoder, self.text_encoder_2, self.transformer, self.vae)
        return tuple(part for part in parts if part is not None)

    def tokenizer(self, name: str = "tokenizer") -> Path | SentencePieceModel:
        """What tokenizes for Gemma ("tokenizer") or Jina ("tokenizer_2").

        A file of its own, beside an encoder that came from elsewhere or in the model's folder,
        else the vocabulary within the weights; an encoder from elsewhere is asked for that before
        the folder. Raises ModelNotFound where there is none, CorruptFile where it makes no sense.
        """
        encoder = {part.name: part for part in self.components}[ENCODERS[name]]
        store, prefix = encoder.store, encoder.match.prefix
        beside = self._beside(name)
        within = [(self.path, folder) for folder in TOKENIZERS[name]]
        found = (own_file(beside) or carried(store, prefix)) if beside else None
        found = found or own_file(within) or carried(store, prefix)
        if found is not None:
            return found
        files = [str(root / folder / FILES[0]) for root, folder in (*beside, *within)]
        raise ModelNotFound(
            f"a model has a tokenizer.json or tokenizer.model for its {name}",
            f"none at {', '.join(files)}",
            "Copy the one that belongs to the encoder there",
        )

    def _beside(self, name: str) -> list[tuple[Path, str]]:
        """Roots and folders within them that may hold the tokenizer of an encoder from elsewhere.

        Two encoders in one folder share none of its tokenizer.json.
        """
        encoders = [part for part in self.components if part.name in ENCODERS.values()]
        homes = {part.name: folder_of(part.place) for part in encoders}
        home = homes[ENCODERS[name]]
        if home.is_relative_to(self.path):
            return []
        shared = len(set(homes.values())) < len(homes)
        beside = [] if shared else [(home, "")]
        return [*beside, (home, name), (home.parent, name)]

    def vocabulary(self) -> frozenset[str] | None:
        """The words the model can draw, or None where it does not say.

        Of a transformer from elsewhere, the model's folder knows nothing.
        """
        if not self.transformer.place.is_relative_to(self.path):
            return None
        return vocabulary(self.path)

    def sha256(self, digest: Callable[[Path], str] | None = None) -> dict[str, str]:
        """The digest of each component's weights, by component; digest: as in `Store.sha256`."""
        return {part.name: part.store.sha256(digest) for part in self.components}


def open_checkpoint(
    path: str | os.PathLike[str] | None,
    parts: Mapping[str, str | os.PathLike[str]] | None = None,
    opens: Opener = Store.open,
    kinds: tuple[str, ...] = KINDS,
) -> Checkpoint:
    """Open a model: find its components, read their specs, compare.

    path: the model's folder, or None where `parts` names all. parts: the folder or file
    of each component that comes from elsewhere, by transformer | text_encoder |
    text_encoder_2 | vae. opens: what opens the weights of a component. kinds: the single files
    that may hold one, as patterns.

    Raises ModelNotFound where something is missing (listing what is there and what is
    expected), CorruptFile or LayoutError where a file cannot be read, SpecMismatch where
    config, weights, or two components contradict each other.
    """
    given = {name: Path(place) for name, place in (parts or {}).items()}
    home = folder_of(given["transformer"]) if path is None and "transformer" in given else None
    base = Path(path) if path is not None else home
    found = find_parts(None if path is None else Path(path), given, opens, kinds)
    opened: dict[str, Component] = {}
    for name, place in found.items():  # the transformer first: it says whether Jina is read
        if name == SECOND and not _reads_pooled(opened["transformer"], place, name in given):
            continue
        root = None if name in given else base
        opened[name] = open_component(place, name, root, opens)
    transformer = opened["transformer"]
    if SECOND not in opened and transformer.spec.clip_text_dim:
        raise missing([SECOND], None if path is None else Path(path), kinds)
    assert base is not None  # without a folder, every component was given
    names = f"{title_of(base)} {transformer.place.name} {transformer.store.path.name}"
    index = read_model_index(base, preset_of(names, bool(transformer.spec.clip_text_dim)))
    spec = ModelSpec(
        name=index.name,
        transformer=transformer.spec,
        gemma=opened["text_encoder"].spec,
        jina=opened[SECOND].spec if SECOND in opened else None,
        vae=opened["vae"].spec,
        drawing=index.drawing,
    )
    _check_fit(spec, [part.place for part in opened.values()])
    return Checkpoint(base, spec, index, **opened)


def _reads_pooled(transformer: Component, place: Path, given: bool) -> bool:
    """Whether a transformer takes what the second encoder gives; place, given: of that.

    Raises SpecMismatch where one was asked for that nothing would read.
    """
    if given and not transformer.spec.clip_text_dim:
        raise SpecMismatch(
            "a second text encoder belongs to a transformer that takes its pooled text",
            f"{place} for {transformer.place}, which takes none",
            "Leave it out; Lumina-Image 2.0 and its fine-tunes read Gemma's text alone",
        )
    return bool(transformer.spec.clip_text_dim)


def open_component(
    path: Path, name: str | None = None, root: Path | None = None, opens: Opener = Store.open
) -> Component:
    """Open one component from its folder or file.

    name: transformer | text_encoder | text_encoder_2 | vae; by default what its tensors tell.
    root: the folder that no link may lead out of, by default the component's own. opens: what
    opens the weights.
    """
    return understand(opens(path, root), name, path, root)


def understand(source: Store, name: str | None, place: Path, root: Path | None = None) -> Component:
    """Say what a component is, from its tensors' names and shapes and the configs with them.

    place: the folder or file that was opened; a config.json there counts. Raises as
    `open_component` does.
    """
    folder = folder_of(place)
    configs = _configs(folder, source, root or folder, name)
    config, origin = configs[0] if configs else (None, f"{folder / CONFIG} (which is not there)")
    store = translated(source, _quantisation(config, folder, root or folder))
    stored, shapes = read_shapes(store)
    match = recognise(shapes, name)
    name = match.layout.component
    if match.layout.baked and config is not None:
        match = replace(match, adapter=baked_adapter(config, origin))
    if config is not None and isinstance(store, Translated):
        store = _cut(store, match, shapes, config, origin)
        shapes = shapes | {key: each.shape for key, each in store.packed.items()}
    pieces = made_of(match, shapes)
    ours = {name: piece.shape for name, piece in pieces.items()}
    spec = read_spec(FAMILIES[name], config, origin, ours, str(store.path))
    for other, its_origin in configs[1:]:
        compare(FAMILIES[name], spec, origin, other, its_origin)
    return Component(store, match, stored, shapes, pieces, name, spec, place)


def _quantisation(config: Mapping[str, Any] | None, folder: Path, root: Path) -> Mapping[str, Any]:
    """What is said of how weights were quantised, in their config or in a file beside it."""
    said = (config or {}).get("quantization_config")
    if said is None and (folder / QUANTISATION).is_file():
        said = read_json(folder / QUANTISATION, root)
    return said if isinstance(said, dict) else {}


def _cut(
    store: Translated, match: Match, shapes: Shapes, config: Mapping[str, Any], origin: str
) -> Translated:
    """A store whose weights that were made up to whole blocks are cut to what the config says."""
    padding = {
        key: each.scheme.padding
        for key, each in store.packed.items()
        if each.scheme.padding != (1, 1)
    }
    if not padding:
        return store
    known = made_of(match, {key: shape for key, shape in shapes.items() if key not in padding})
    ours = {name: piece.shape for name, piece in known.items()}
    try:
        spec = read_spec(FAMILIES[match.layout.component], config, origin, ours, str(store.path))
    except SpecMismatch:  # it says too little alone; with all shapes beside it, it may say enough
        return store
    wanted = {weight.key: weight.shape for weight in weights_of(spec)}
    cuts = {}
    for target, piece in made_of(match, shapes).items():
        key, shape = piece.sources[0], wanted.get(target, ())
        if len(piece.sources) == 1 and piece.rows is None and key in padding:
            sizes = zip(shape, padding[key], strict=False)
            if tuple(-(-size // whole) * whole for size, whole in sizes) == shapes[key]:
                cuts[key] = shape
    return store.cut(cuts)


def code_in(path: Path) -> tuple[str, ...]:
    """The code in a model's folder and those within, by its path there: never read, never run.

    An `auto_map` of a config, which asks for code, counts as some; what is no config is told of
    where it is needed. Empty for a lone file.
    """
    if not path.is_dir():
        return ()
    found = []
    within = sorted(each for each in path.iterdir() if each.is_dir() and not each.is_symlink())
    for folder in (path, *within):
        files = sorted(entry for entry in folder.iterdir() if entry.suffix in CODE)
        found += [str(file.relative_to(path)) for file in files]
        config = folder / CONFIG
        if config.is_file() and _asks_for_code(config, path):
            found.append(f"{AUTO_MAP} in {config.relative_to(path)}")
    return tuple(found)


def _asks_for_code(config: Path, root: Path) -> bool:
    try:
        return AUTO_MAP in read_json(config, root)
    except CorruptFile:
        return False


def config_key(name: str, alone: bool = True) -> str:
    """What a file's metadata call the config of a component, alone there or beside others."""
    return "config" if alone else f"config.{name}"


def _configs(
    folder: Path, store: Store, root: Path, name: str | None
) -> list[tuple[dict[str, Any], str]]:
    """The configs of a component, each with where it comes from; the first one counts."""
    configs = []
    file = folder / CONFIG
    if file.is_file():
        configs.append((read_json(file, root), str(file)))
    for key in (config_key(""), config_key(name or "", alone=False)):
        if key in store.metadata:
            source = f"the metadata of {store.path}"
            text = store.metadata[key].encode("utf-8", "surrogatepass")
            configs.append((parse_json(text, source), source))
    return configs


def _check_fit(spec: ModelSpec, places: Iterable[Path]) -> None:
    """The transformer must take what the encoders give and the autoencoder reads."""
    taken, gemma, jina, vae = spec.transformer, spec.gemma, spec.jina, spec.vae
    pooled = jina.hidden_size if jina else 0
    pairs = (
        ("cap_feat_dim", taken.cap_feat_dim, "hidden_size of text_encoder", gemma.hidden_size),
        ("clip_text_dim", taken.clip_text_dim, "hidden_size of text_encoder_2", pooled),
        ("in_channels", taken.in_channels, "latent_channels of vae", vae.latent_channels),
    )
    for ours, wanted, theirs, got in pairs:
        if wanted != got:
            raise SpecMismatch(
                "the components of a model fit together",
                f"{ours} {wanted} of transformer, {theirs} {got}, from {_listed(places)}",
                "Use components that were trained together",
            )


def _listed(places: Iterable[Path]) -> str:
    return ", ".join(str(place) for place in places)
