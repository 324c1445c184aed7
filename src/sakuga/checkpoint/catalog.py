"""Where models are, and what a linter needs to know of one, without opening its weights."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sakuga.api.engine_spec import EMBEDDED
from sakuga.checkpoint.model_index import entry_of, read_model_index, title_of
from sakuga.checkpoint.tokenizer_file import own_file
from sakuga.checkpoint.vocabulary import vocabulary
from sakuga.errors import CorruptFile, ModelNotFound, WeightsError
from sakuga.model.spec import (
    LUMINA_2,
    NETA_LUMINA,
    NETAYUME_LUMINA,
    NEWBIE_3_5B,
    PRESETS,
    SAKIKO_LUMINA,
    TEXT_ENCODER,
    TEXT_ENCODER_2,
    TRANSFORMER,
    DrawingSpec,
    ModelSpec,
    preset_of,
)
from sakuga.weights.untrusted import read_json, reading

EMBEDDED_FOLDER = Path(__file__).parents[1] / "chibi" / "model"
ENCODER_SHELVES = ("text_encoders", "clip", "Text Encoder")  # of encoders in single files
GEMMA_2 = "gemma2"  # what transformers calls the encoder of models without pooled text
HUB_NAMES = {
    NEWBIE_3_5B.name: "NewBie-AI/NewBie-image-Exp0.1",
    LUMINA_2.name: "Alpha-VLLM/Lumina-Image-2.0",
    NETA_LUMINA.name: "neta-art/Neta-Lumina-diffusers",
    SAKIKO_LUMINA.name: "SakikoLab/Sakiko-Lumina",
    NETAYUME_LUMINA.name: "duongve/NetaYume-Lumina-Image-2.0-Diffusers-v40",
}
ELSEWHERE = {
    name: f"Name it as Hugging Face does, {hub}, or its folder." for name, hub in HUB_NAMES.items()
}


@dataclass(frozen=True, slots=True)
class LintProfile:
    """What a prompt is linted against: a model's trained length, tokenizer and vocabulary.

    `limit` counts Gemma tokens. `tokenizer` is a file that `checkpoint.tokenizer` reads, None
    without the model's files; `vocabulary` is None for a model that does not list what it can
    draw. The system prompts are what Gemma reads before an XML or a plain prompt; `weighting`
    is what weights of tags do. `xml`: whether it was trained on XML, as models with a pooled text
    were; `as_xml`: whether flat tags are drawn as XML where nobody says otherwise.
    """

    limit: int
    tokenizer: Path | None
    vocabulary: frozenset[str] | None
    system_xml: str
    system_text: str
    weighting: str = "off"
    xml: bool = False
    as_xml: bool = False


def locate(model: str) -> Path:
    """The folder of a model, given by name or path. Raises ModelNotFound."""
    folder = EMBEDDED_FOLDER if model == EMBEDDED else Path(model)
    with reading(folder):
        if folder.is_dir():
            return folder
    if model in ELSEWHERE:
        raise ModelNotFound("weights must be on this machine", repr(model), ELSEWHERE[model])
    if folder.is_file():
        raise ModelNotFound(
            "a model must be a folder, or known by name", f"the file {model}",
            "Name the folder of its model; `sakuga inspect` says what a file holds.",
        )  # fmt: skip
    raise ModelNotFound(
        "a model must be a folder, or known by name",
        f"{model!r}, where there is none",
        f"Known by name: {', '.join((EMBEDDED, *ELSEWHERE))}; "
        "`sakuga fetch org/name` downloads one of a hub.",
    )


def lint_profile(model: str) -> LintProfile:
    """What prompts for a model are linted against; one that is elsewhere has no files to ask.

    Raises ModelNotFound for a name or folder that nobody knows.
    """
    if model in ELSEWHERE and not Path(model).is_dir():
        preset = PRESETS[model]
        return LintProfile(
            preset.gemma.trained_tokens, None, None, **_reading(preset.drawing),
            xml=_on_xml(preset),
        )  # fmt: skip
    folder = EMBEDDED_FOLDER if model == EMBEDDED else locate(model)
    preset = _preset(folder)
    limit, defaults = preset.gemma.trained_tokens, _reading(preset.drawing)
    defaults |= {
        key: value
        for key, value in _drawing_entry(folder).items()
        if key in defaults and type(value) is type(defaults[key])
    }
    words = None
    with suppress(CorruptFile):
        words = vocabulary(folder)
    return LintProfile(limit, _tokenizer(folder), words, **defaults, xml=_on_xml(preset))


def drawing_defaults(model: str | None) -> DrawingSpec:
    """What a model draws when nobody says otherwise; the real model's where none is named.

    Raises ModelNotFound, CorruptFile, SpecMismatch.
    """
    if model is None:
        return NEWBIE_3_5B.drawing
    if model in ELSEWHERE and not Path(model).is_dir():
        return PRESETS[model].drawing
    folder = locate(model)
    return read_model_index(folder, _preset(folder)).drawing


def _on_xml(preset: ModelSpec) -> bool:
    return preset.jina is not None


def _reading(drawing: DrawingSpec) -> dict[str, Any]:
    """How a model reads a prompt, where nobody says otherwise."""
    keys = ("system_xml", "system_text", "weighting", "as_xml")
    return {key: getattr(drawing, key) for key in keys}


def _preset(folder: Path) -> ModelSpec:
    """The preset of a model in a folder, by what that is called and holds."""
    names = title_of(folder)
    if any((folder / name).is_dir() for name in TEXT_ENCODER_2.folders):
        return preset_of(names, pooled=True)
    config = folder / TEXT_ENCODER.folders[0] / "config.json"
    with suppress(CorruptFile):
        if config.is_file() and read_json(config, folder).get("model_type") == GEMMA_2:
            return preset_of(names, pooled=False)
    # Only now: what reads weights takes a tenth of a second to import.
    from sakuga.checkpoint.parts import parts_in

    with suppress(WeightsError, ModelNotFound):
        places = parts_in(folder)
        files = places.get(TRANSFORMER.name, folder).name
        return preset_of(f"{names} {files}", pooled=TEXT_ENCODER_2.name in places)
    return preset_of(names, pooled=True)


def _tokenizer(folder: Path) -> Path | None:
    """The file with Gemma's tokenizer; None where there is none, or where it leads elsewhere."""
    places = [(folder, name) for name in ("tokenizer", "text_encoder", *ENCODER_SHELVES, "")]
    try:
        if found := own_file(places[:2]):
            return found
        # Only now: what reads weights takes a tenth of a second to import.
        from sakuga.checkpoint.tokenizer import carrier

        return carrier(places, "text_encoder")
    except CorruptFile:
        return None


def _drawing_entry(folder: Path) -> dict[str, Any]:
    """The drawing defaults in a model's index as they stand there; empty where it is broken.

    Opening the model says what is wrong with a file; a linter need not.
    """
    ours: Any = {}
    with suppress(CorruptFile):
        ours = entry_of(folder)
    drawing = ours.get("drawing") if isinstance(ours, dict) else None
    return drawing if isinstance(drawing, dict) else {}
