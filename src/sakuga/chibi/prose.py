"""Sentences about a scene, in three languages, and sentences about nothing."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from random import Random

from sakuga.chibi.languages import EMPTY_WORDS, PHRASES
from sakuga.chibi.scene import Character, Scene
from sakuga.chibi.vocabulary import TAGS

LANGUAGES = ("en", "ja", "zh")
_ENDS = {"en": ". ", "ja": "。", "zh": "。"}
# From two on; one character is not counted.
_COUNTS = {
    "en": ("{} characters", ("two", "three", "four", "five", "six")),
    "ja": ("{}人のキャラクター", ("二", "三", "四", "五", "六")),
    "zh": ("{}个人", ("两", "三", "四", "五", "六")),
}
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
    for i, character in enumerate(scene.characters):
        say = _words(character, rng, language, gap)
        write = rng.choice(_SENTENCES[language])
        told.append((write(say, rng) + end, i))
    where = _phrase("background", scene.background, rng, language)
    light = _phrase("lighting", scene.lighting, rng, language)
    if rng.random() >= gap:
        told.append((_SCENES[language](where, light if rng.random() >= gap else "") + end, -1))
    return told


def _words(character: Character, rng: Random, language: str, gap: float) -> Say:
    kept = {slot for slot in _SAID if rng.random() >= gap}

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
_SCENES: dict[str, Callable[[str, str], str]] = {
    "en": lambda where, light: f"The background is {where}{', with ' * bool(light)}{light}",
    "ja": lambda where, light: f"場所は{where}{'、' * bool(light)}{light}",
    "zh": lambda where, light: f"在{where}{'，' * bool(light)}{light}",
}
