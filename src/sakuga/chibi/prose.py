"""Sentences about a scene, in three languages, and sentences about nothing."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from random import Random

from sakuga.chibi.languages import EMPTY_WORDS, PHRASES, PLACES
from sakuga.chibi.scene import PLAIN_LIGHT, Character, Scene
from sakuga.chibi.vocabulary import TAGS

LANGUAGES = ("en", "ja", "zh")
_ENDS = {"en": ". ", "ja": "。", "zh": "。"}
# From two on; one character is not counted.
_COUNTS = {
    "en": ("{} characters", ("two", "three", "four", "five", "six")),
    "ja": ("{}人のキャラクター", ("二", "三", "四", "五", "六")),
    "zh": ("{}个人", ("两", "三", "四", "五", "六")),
}
_INSIDE, _PLAINLY = 0.4, 0.4  # of places: said with the one character; as a background
_LIKED = ("hair_color", "hair_style", "eye_color")
_MOOD = ("expression", "pose")
_SAID = (*_LIKED, "garment", "garment_color", "expression", "pose", "accessory")
Say = Callable[[str], str]  # the words of a slot, "" for one that is left out


def empty_sentence(rng: Random, language: str) -> str:
    """A sentence that says nothing of what is drawn."""
    words = [rng.choice(part) for part in EMPTY_WORDS[language]]
    if language == "en":
        return " ".join(words).capitalize() + "."
    return "".join(words) + "。"


def sentences(scene: Scene, rng: Random, language: str, gap: float) -> list[tuple[str, int]]:
    """What is drawn, a sentence for each character; `gap`: the chance that a thing is left out.

    Each with the index of its character, or -1.
    """
    end = _ENDS[language]
    told: list[tuple[str, int]] = []
    if len(scene.characters) > 1:
        counted, numbers = _COUNTS[language]
        told.append((counted.format(numbers[len(scene.characters) - 2]) + end, -1))
    placed = rng.random() >= gap
    inside = placed and len(scene.characters) == 1 and rng.random() < _INSIDE
    for i, character in enumerate(scene.characters):
        say = _words(character, rng, language, gap)
        text = rng.choice(_SENTENCES[language])(say, rng)
        told.append(((_at_place(text, scene, rng, language) if inside else text) + end, i))
    unlit = gap if scene.lighting == PLAIN_LIGHT else gap / 2
    light = _phrase("lighting", scene.lighting, rng, language) if rng.random() >= unlit else ""
    if placed and not inside:
        told.append((_scene(scene.background, light, rng, language) + end, -1))
    return told


def _at_place(text: str, scene: Scene, rng: Random, language: str) -> str:
    """A sentence of one character that says where she is."""
    place = _place(scene.background, rng, language)
    return {"en": f"{text}, {place}", "ja": f"{place}で、{text}", "zh": f"{text}，在{place}"}[
        language
    ]


def _scene(background: str, light: str, rng: Random, language: str) -> str:
    if language == "en" and rng.random() < _PLAINLY:
        where = _phrase("background", background, rng, language)
        return f"The background is {where}{', with ' * bool(light)}{light}"
    place = _place(background, rng, language)
    if language == "en":
        opening = rng.choice(("The scene is", "It is set", "All of this is"))
        return f"{opening} {place}{', with ' * bool(light)}{light}"
    if language == "ja":
        return f"{rng.choice(('場所は', '背景は', ''))}{place}{'、' * bool(light)}{light}"
    return f"{rng.choice(('在', '背景是', '地点是'))}{place}{'，' * bool(light)}{light}"


def _place(background: str, rng: Random, language: str) -> str:
    """Where that is, in English with its preposition."""
    if language == "en":
        return rng.choice(PLACES[background].split("|"))
    return _phrase("background", background, rng, language)


def _words(character: Character, rng: Random, language: str, gap: float) -> Say:
    kept = {slot for slot in _SAID if rng.random() >= gap / (1 + (slot == "accessory"))}

    def say(slot: str) -> str:
        value = getattr(character, slot)
        if slot == "accessory" and value == "none":
            return ""
        if slot != "gender" and slot not in kept:
            return ""
        return _phrase(slot, value, rng, language)

    return say


def _phrase(slot: str, value: str, rng: Random, language: str) -> str:
    if language != "en":
        return rng.choice(PHRASES[language][slot][value].split("|"))
    if slot == "gender":
        return value.removeprefix("1")
    if slot == "garment_color":
        return value
    return rng.choice(TAGS[slot][value]).replace("_", " ")


def _told(say: Say, slots: Sequence[str]) -> list[str]:
    """The words of these slots, without those that are left out."""
    return [word for slot in slots if (word := say(slot))]


def _english(say: Say, rng: Random) -> str:
    looks = _told(say, _LIKED)
    text = f"a {say('gender')}"
    if looks:
        text += f" with {', '.join(looks[:-1])}{' and ' * (len(looks) > 1)}{looks[-1]}"
    garment = say("garment")
    if garment:
        text += f"{rng.choice((', wearing a', ' in a', ' who wears a'))} "
        text += f"{say('garment_color')} {garment}".strip()
    for slot, before in (("accessory", ", with "), ("expression", ", "), ("pose", ", ")):
        if word := say(slot):
            text += before + word
    return text[0].upper() + text[1:]


def _japanese(say: Say, rng: Random) -> str:
    looks = _told(say, _LIKED)
    text = f"{'と'.join(looks)}の{say('gender')}" if looks else say("gender")
    garment = say("garment")
    if garment:
        text += f"が{say('garment_color')}{garment}を着て{rng.choice(('いる', 'おり'))}"
    if word := say("accessory"):
        text += f"、{word}をつけている"
    return "、".join([text, *_told(say, _MOOD)])


def _chinese(say: Say, rng: Random) -> str:
    looks = _told(say, _LIKED)
    text = (
        f"{rng.choice(('一个', '一位', ''))}{'、'.join(looks)}{'的' * bool(looks)}{say('gender')}"
    )
    garment = say("garment")
    if garment:
        colour = say("garment_color")
        text += f"，{rng.choice(('穿着', '身穿'))}{colour}{garment}"
    if word := say("accessory"):
        text += f"，戴着{word}"
    return "，".join([text, *_told(say, _MOOD)])


def _english_by_parts(say: Say, rng: Random) -> str:
    """The same in sentences of a few words."""
    gender = say("gender")
    who = "He" if gender == "boy" else "She"
    looks = _told(say, _LIKED)
    parts = [f"{rng.choice(('There is', 'This is'))} a {gender}"]
    parts += [f"{who} has {' and '.join(looks)}"] * bool(looks)
    if garment := say("garment"):
        wears = rng.choice(("wears", "is wearing"))
        parts.append(f"{who} {wears} a {say('garment_color')} {garment}")
    if word := say("accessory"):
        parts.append(f"{who} has {word}")
    mood = _told(say, _MOOD)
    return ". ".join(parts + [", ".join(mood).capitalize()] * bool(mood)).replace("  ", " ")


def _japanese_by_parts(say: Say, rng: Random) -> str:
    looks = _told(say, _LIKED)
    parts = [f"{say('gender')}が{rng.choice(('いる', 'います'))}"]
    parts += [f"{'、'.join(looks)}{rng.choice(('です', 'をしている'))}"] * bool(looks)
    if garment := say("garment"):
        parts.append(f"服は{say('garment_color')}{garment}")
    rest = _told(say, ("accessory", "expression", "pose"))
    return "。".join(parts + ["、".join(rest)] * bool(rest))


def _chinese_by_parts(say: Say, rng: Random) -> str:
    gender = say("gender")
    who = "他" if gender in PHRASES["zh"]["gender"]["1boy"].split("|") else "她"
    looks = _told(say, _LIKED)
    parts = [f"{rng.choice(('有一个', '画面里是一位'))}{gender}"]
    parts += [f"{who}有{'，'.join(looks)}"] * bool(looks)
    if garment := say("garment"):
        parts.append(f"{who}穿{say('garment_color')}{garment}")
    rest = _told(say, ("accessory", "expression", "pose"))
    return "。".join(parts + ["，".join(rest)] * bool(rest))


_SENTENCES = {
    "en": (_english, _english_by_parts),
    "ja": (_japanese, _japanese_by_parts),
    "zh": (_chinese, _chinese_by_parts),
}
