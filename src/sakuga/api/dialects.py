"""How other programs tell of a drawing as one JSON object: a table, and one way to read them.

Names were seen in what the programs write and in readers of it (sd-parsers 0.6,
sd-prompt-reader 1.3.5): InvokeAI 3 and later, SwarmUI, Fooocus with its own scheme, NovelAI.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from sakuga.api.infotext import Infotext

Form = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Dialect:
    """One program's object.

    `places`: the texts of a picture that may hold it. `within`: the name it has in there, if it
    is not all. `known_by`: names that together no other program writes. `settings`: its names,
    and A1111's for the same. `size`: one name of a pair such as "(1152, 896)", or those of width
    and height. `people`: the names that lead to a list of people, and to the prompt of each.
    `beside`: texts of the picture, outside of the object, that hold its prompt and its model.
    """

    program: str
    places: tuple[str, ...]
    known_by: frozenset[str]
    prompt: str
    negative: str
    settings: Mapping[str, str]
    within: str = ""
    size: tuple[str, ...] = ("width", "height")
    people: tuple[str, ...] = ()
    beside: tuple[str, str] = ("", "")


DIALECTS = (
    Dialect(
        "InvokeAI", ("invokeai_metadata",), frozenset(("positive_prompt",)),
        "positive_prompt", "negative_prompt",
        {"steps": "Steps", "scheduler": "Sampler", "cfg_scale": "CFG scale", "seed": "Seed",
         "model": "Model"},
    ),
    Dialect(
        "SwarmUI", ("parameters", "UserComment"), frozenset(("prompt",)),
        "prompt", "negativeprompt",
        {"steps": "Steps", "comfyuisampler": "Sampler", "sampler": "Sampler",
         "scheduler": "Schedule type", "cfgscale": "CFG scale", "seed": "Seed", "model": "Model"},
        within="sui_image_params",
    ),
    Dialect(
        "Fooocus", ("parameters", "UserComment", "Comment"),
        frozenset(("prompt", "guidance_scale", "base_model")), "prompt", "negative_prompt",
        {"steps": "Steps", "sampler": "Sampler", "scheduler": "Schedule type",
         "guidance_scale": "CFG scale", "seed": "Seed", "base_model": "Model"},
        size=("resolution",),
    ),
    Dialect(
        "NovelAI", ("Comment",), frozenset(("uc", "sampler", "scale", "steps")), "prompt", "uc",
        {"steps": "Steps", "sampler": "Sampler", "noise_schedule": "Schedule type",
         "scale": "CFG scale", "seed": "Seed"},
        people=("v4_prompt", "caption", "char_captions", "char_caption"),
        beside=("Description", "Source"),
    ),
)  # fmt: skip


def read_dialect(texts: Mapping[str, str]) -> tuple[str, Infotext] | None:
    """The program and the drawing of the first dialect that the texts of a picture hold."""
    for dialect in DIALECTS:
        for place in dialect.places:
            form = object_of(texts.get(place, ""))
            form = form.get(dialect.within, {}) if dialect.within else form
            if isinstance(form, dict) and form.keys() >= dialect.known_by:
                return dialect.program, _drawing(form, dialect, texts)
    return None


def object_of(text: str) -> Form:
    """An object as JSON; an empty one for anything else."""
    try:
        data = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    return data if isinstance(data, dict) else {}


def _drawing(form: Form, dialect: Dialect, texts: Mapping[str, str]) -> Infotext:
    settings = {}
    for theirs, ours in dialect.settings.items():
        if (value := _word(form.get(theirs))) and ours not in settings:
            settings[ours] = value
    sides = re.findall(r"\d+", " ".join(_word(form.get(name)) for name in dialect.size))
    if len(sides) == 2:
        settings["Size"] = "x".join(sides)
    prompt = "\n".join((_word(form.get(dialect.prompt)).strip(), *_people(form, dialect.people)))
    described, model = (texts.get(name, "") for name in dialect.beside)
    prompt = prompt or described.strip()
    settings |= {"Model": model} if model else {}
    return Infotext(prompt, _word(form.get(dialect.negative)).strip(), settings)


def _people(form: object, path: tuple[str, ...]) -> Iterator[str]:
    """The prompts of single people, where a program keeps them apart from that of the picture."""
    if not path:
        return
    for name in path[:-1]:
        form = form.get(name) if isinstance(form, dict) else None
    for person in form if isinstance(form, list) else ():
        if isinstance(person, dict) and (text := _word(person.get(path[-1])).strip()):
            yield text


def _word(value: object) -> str:
    """A value as text; of a model that is described, its name; nothing for anything else."""
    if isinstance(value, dict):
        value = value.get("name") or value.get("model_name")
    return str(value) if isinstance(value, (str, int, float)) else ""
