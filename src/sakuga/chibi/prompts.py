"""Writes the prompt of a scene as many people would: XML, flat tags or sentences, most with gaps.

What a prompt leaves out is drawn at random, what it says beside the point is not drawn at all:
unknown words, captions about nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

from sakuga.chibi.prose import LANGUAGES, empty_sentence, sentences
from sakuga.chibi.scene import Character, Scene
from sakuga.chibi.strangers import stranger
from sakuga.chibi.vocabulary import NAMES, TAGS

_NAMES = tuple(sorted(NAMES))
_QUALITY = ("masterpiece", "best_quality", "highres", "absurdres", "very_awa", "newest")
_STYLE = ("anime_style", "sharp_focus", "cel_shading", "clean_lines", "soft_colors", "chibi")
_COUNTED, _SOLO = 0.9, 0.2  # of lists of tags for one character: those that count, that say solo
_SHARES = {"en": 4, "ja": 3, "zh": 3}  # of the languages, in sentences and captions


@dataclass(frozen=True, slots=True)
class Phrase:
    """A stretch of prompt text; `owner` is the index of the character it describes, or -1."""

    text: str
    owner: int = -1


@dataclass(frozen=True, slots=True)
class Habits:
    """How one writer writes.

    `gap`: the chance that an attribute is left out. `strangers`: unknown words for each tag.
    `caption`: what stands beside XML: "" for nothing, "empty" or "telling". `language` is that of
    captions and sentences.
    """

    form: str
    gap: float = 0.0
    synonyms: float = 0.0
    spaces: bool = False
    shuffled: bool = False
    strangers: float = 0.0
    caption: str = ""
    language: str = "en"


def habits(rng: Random, flat: float = 0.62) -> Habits:
    """Draw a writer; `flat` is the share that writes tags or sentences without XML."""
    form = "xml" if rng.random() >= flat else rng.choice(("tags", "tags", "sentences"))
    return Habits(
        form=form,
        gap=rng.choice((0.0, 0.0, 0.1, 0.3, 0.5, 0.7, 0.85)),
        synonyms=rng.choice((0.0, 0.15, 0.4)),
        spaces=rng.random() < 0.2,
        shuffled=rng.random() < 0.35,
        strangers=rng.choice((0.0, 0.0, 0.0, 0.0, 0.3, 1.0)),
        caption=rng.choice(("", "", "", "", "empty", "telling")) if form != "sentences" else "",
        language=rng.choices(LANGUAGES, [_SHARES[each] for each in LANGUAGES])[0],
    )


CAREFUL = Habits(form="xml")
CAREFUL_FLAT = Habits(form="tags")


def write_prompt(scene: Scene, rng: Random, writer: Habits) -> list[Phrase]:
    """The prompt of `scene`; joined, the pieces are the text that the encoders read.

    XML that is not `shuffled` is in the canonical form of `sakuga.prompt.canonical`.
    """
    forms = {"xml": _xml, "tags": _flat, "sentences": _sentences}
    return forms[writer.form](scene, rng, writer)


def joined(pieces: Sequence[Phrase]) -> str:
    """The text of the pieces."""
    return "".join(piece.text for piece in pieces)


def _tag(slot: str, value: str, rng: Random, writer: Habits) -> str:
    tags = TAGS[slot][value]
    return rng.choice(tags) if rng.random() < writer.synonyms else tags[0]


def _spelled(tags: Sequence[str], writer: Habits) -> str:
    text = ", ".join(tags)
    return text.replace("_", " ") if writer.spaces else text


def _with_strangers(tags: list[str], rng: Random, writer: Habits) -> list[str]:
    """The tags, with words between them that say nothing."""
    mixed = []
    for tag in tags:
        mixed += [stranger(rng)] * (rng.random() < writer.strangers / 2) + [tag]
        mixed += [stranger(rng)] * (rng.random() < writer.strangers / 2)
    return mixed


def _kept(rng: Random, writer: Habits) -> bool:
    return rng.random() >= writer.gap


def _garment(character: Character, rng: Random, writer: Habits) -> list[str]:
    if not _kept(rng, writer):
        return []
    garment = _tag("garment", character.garment, rng, writer)
    return [f"{character.garment_color}_{garment}" if _kept(rng, writer) else garment]


def _pose(character: Character, rng: Random, writer: Habits) -> list[str]:
    if not _kept(rng, writer):
        return []
    pose = _tag("pose", character.pose, rng, writer)
    general = character.pose not in ("standing", "sitting") and rng.random() < 0.2
    return ["standing", pose] if general else [pose]


def _accessory(character: Character, rng: Random, writer: Habits) -> list[str]:
    if character.accessory == "none" or not _kept(rng, writer):
        return []
    return [_tag("accessory", character.accessory, rng, writer)]


def _plain(character: Character, slot: str, rng: Random, writer: Habits) -> list[str]:
    return [_tag(slot, getattr(character, slot), rng, writer)] if _kept(rng, writer) else []


def _fields(character: Character, rng: Random, writer: Habits) -> list[tuple[str, list[str]]]:
    """A character's fields in the order of training, empty ones left out."""
    looks = [_plain(character, s, rng, writer) for s in ("hair_color", "hair_style", "eye_color")]
    appearance = [tag for tags in looks for tag in tags]
    clothing: list[str] = []
    (appearance if rng.random() < 0.35 else clothing).extend(_garment(character, rng, writer))
    (appearance if rng.random() < 0.5 else clothing).extend(_accessory(character, rng, writer))
    if writer.shuffled:
        rng.shuffle(appearance)
    appearance, clothing = (_with_strangers(tags, rng, writer) for tags in (appearance, clothing))
    position = [_tag("position", character.position, rng, writer)] if character.position else []
    fields = [
        ("n", [rng.choice(_NAMES)] if rng.random() < 0.75 else []),
        ("gender", _plain(character, "gender", rng, writer)),
        ("appearance", appearance),
        ("clothing", clothing),
        ("expression", _plain(character, "expression", rng, writer)),
        ("action", _pose(character, rng, writer)),
        ("position", position),
    ]
    return [(name, tags) for name, tags in fields if tags]


def count_tags(scene: Scene) -> list[str]:
    """How many there are, as Danbooru counts: `2girls`, `1girl, 1boy`."""
    girls = sum(c.gender == "1girl" for c in scene.characters)
    counts = ((girls, "girl"), (len(scene.characters) - girls, "boy"))
    return [f"{n}{word}{'s' if n > 1 else ''}" for n, word in counts if n]


def _general(scene: Scene, rng: Random, writer: Habits) -> list[tuple[str, list[str]]]:
    lighting = [_tag("lighting", scene.lighting, rng, writer)] if _kept(rng, writer) else []
    if scene.rim_light:
        lighting.append(_tag("rim_light", "yes", rng, writer))
    fields = [
        ("count", count_tags(scene) if rng.random() < 0.6 else []),
        ("style", rng.sample(_STYLE, rng.randint(1, 3)) if rng.random() < 0.5 else []),
        ("background", _plain_scene(scene, rng, writer)),
        ("lighting", lighting),
        ("quality", rng.sample(_QUALITY, rng.randint(1, 3)) if rng.random() < 0.4 else []),
    ]
    return [(name, tags) for name, tags in fields if tags]


def _plain_scene(scene: Scene, rng: Random, writer: Habits) -> list[str]:
    return [_tag("background", scene.background, rng, writer)] if _kept(rng, writer) else []


def _xml(scene: Scene, rng: Random, writer: Habits) -> list[Phrase]:
    blocks = []
    for i, character in enumerate(scene.characters):
        fields = _fields(character, rng, writer)
        if writer.shuffled:
            rng.shuffle(fields)
        fields = fields or [("gender", [character.gender])]
        blocks.append(_block(f"character_{i + 1}", fields, i, writer))
    general = _general(scene, rng, writer)
    if writer.shuffled:
        rng.shuffle(general)
        rng.shuffle(blocks)
    if general:
        blocks.append(_block("general_tags", general, -1, writer))
    if caption := _caption(scene, rng, writer):
        blocks.append([Phrase(f"<caption>{caption}</caption>\n")])
    wrapper = rng.choice(("", "", "image", "img")) if writer.shuffled else ""
    pieces = [piece for block in blocks for piece in block]
    if wrapper:
        pieces = [Phrase(f"<{wrapper}>\n"), *pieces, Phrase(f"</{wrapper}>\n")]
    last = pieces[-1]
    return [*pieces[:-1], Phrase(last.text.removesuffix("\n"), last.owner)]


def _caption(scene: Scene, rng: Random, writer: Habits) -> str:
    if writer.caption == "empty":
        return empty_sentence(rng, writer.language)
    if writer.caption == "telling":
        told = sentences(scene, rng, writer.language, writer.gap)
        return "".join(text for text, _ in told).strip()
    return ""


def _block(
    name: str, fields: list[tuple[str, list[str]]], owner: int, writer: Habits
) -> list[Phrase]:
    lines = (f"<{field}>{_spelled(tags, writer)}</{field}>\n" for field, tags in fields)
    return [Phrase(f"<{name}>\n{''.join(lines)}</{name}>\n", owner)]


def _flat(scene: Scene, rng: Random, writer: Habits) -> list[Phrase]:
    """One list of tags: nothing but their order tells which tag is whose."""
    alone = len(scene.characters) == 1
    words: list[tuple[str, int]] = []
    for i, character in enumerate(scene.characters):
        # `1girl` says how many there are, not who one of several is.
        fields = _fields(character, rng, writer)
        words += [(tag, i) for name, tags in fields if name not in ("n", "gender") for tag in tags]
    general = _general(scene, rng, writer)
    around = [(tag, -1) for name, tags in general if name != "count" for tag in tags]
    counts: list[tuple[str, int]] = []
    if not alone or not words or rng.random() < _COUNTED:
        counts = [(tag, -1) for tag in count_tags(scene)]
        counts += [("solo", -1)] if alone and rng.random() < _SOLO else []
    words = [*counts, *words, *around]
    if writer.shuffled and alone:
        rng.shuffle(words)
    pieces = [Phrase(_spelled([tag], writer) + ", ", owner) for tag, owner in words]
    last = Phrase(pieces[-1].text.removesuffix(", "), pieces[-1].owner)
    caption = _caption(scene, rng, writer)
    return [*pieces[:-1], last, *([Phrase("\n" + caption)] if caption else [])]


def _sentences(scene: Scene, rng: Random, writer: Habits) -> list[Phrase]:
    """A plain description, with sentences about nothing among the others now and then."""
    told = [Phrase(*each) for each in sentences(scene, rng, writer.language, writer.gap)]
    if rng.random() < writer.strangers:
        space = " " * (writer.language == "en")
        told.append(Phrase(empty_sentence(rng, writer.language) + space))
    return [*told[:-1], Phrase(told[-1].text.rstrip(), told[-1].owner)]
