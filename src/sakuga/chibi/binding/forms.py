"""The forms of prompts: the same said as XML, as flat tags, in sentences, with noise around."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from random import Random

from sakuga.chibi.binding.asks import Ask, Said
from sakuga.chibi.languages import PHRASES, Table
from sakuga.chibi.prompts import count_tags
from sakuga.chibi.strangers import stranger
from sakuga.chibi.vocabulary import NAMES, TAGS

FIELDS = ("n", "gender", "appearance", "clothing", "expression", "action", "position")
_HOMES = {
    "name": "n", "gender": "gender", "position": "position", "expression": "expression",
    "hair_color": "appearance", "hair_style": "appearance", "eye_color": "appearance",
    "garment": "clothing", "accessory": "clothing", "pose": "action", "stranger": "appearance",
}  # fmt: skip
# Sentences of nobody's training, which say nothing of what is drawn.
CAPTIONS = {
    "en": (
        "A candid snapshot from a slow afternoon.",
        "Concept art for a short film, still unfinished.",
        "She has been waiting for the last train and humming a tune.",
        "Nobody knows how long this lasted.", "Drawn with a steady hand for a friend's birthday.",
    ),
    "ja": (
        "ゆっくりとした午後の一枚。", "友だちの誕生日のために描いたイラスト。",
        "終電を待ちながら鼻歌を歌っている。",
        "どれくらい続いたのか誰も知らない。", "短編映画のための未完成の設定画。",
    ),
    "zh": (
        "一个慢悠悠的下午。", "为朋友生日画的插画。", "她一边等末班车一边哼着歌。",
        "没有人知道这持续了多久。",
        "一部短片的未完成设定图。",
    ),
}  # fmt: skip
_UNTAUGHT_NAMES = ("tamsin", "oriel", "ilka", "benedikt", "wren", "kagemaru", "yvaine", "odette")
Form = Callable[[Ask, Random], str]


def xml(ask: Ask, rng: Random) -> str:
    """Each tag in its field, a block for each character."""
    return _document(_blocks(ask.people), ask.around)


def xml_shuffled(ask: Ask, rng: Random) -> str:
    """The same; tags, fields and blocks in any order."""
    people = [dict(rng.sample(list(one.items()), len(one))) for one in ask.people]
    blocks = _blocks(people, rng)
    rng.shuffle(blocks)
    return _document(blocks, ask.around)


def _blocks(people: Sequence[Said], rng: Random | None = None) -> list[str]:
    blocks = []
    for number, said in enumerate(people, 1):
        fields: dict[str, list[str]] = {}
        for slot, tag in said.items():
            fields.setdefault(_HOMES[slot], []).append(tag)
        names = [name for name in FIELDS if name in fields]
        if rng:
            rng.shuffle(names)
        lines = "".join(f"<{name}>{', '.join(fields[name])}</{name}>\n" for name in names)
        blocks.append(f"<character_{number}>\n{lines}</character_{number}>\n")
    return blocks


def _document(blocks: Sequence[str], around: Said) -> str:
    general = "".join(f"<{field}>{tag}</{field}>\n" for field, tag in around.items())
    return "".join(blocks) + (f"<general_tags>\n{general}</general_tags>" if general else "")


def flat(ask: Ask, rng: Random) -> str:
    """How many there are, then the tags of each, then what is around them."""
    return ", ".join([*_counts(ask), *_own(ask), *ask.around.values()])


def flat_shuffled(ask: Ask, rng: Random) -> str:
    """The same in any order."""
    words = [*_counts(ask), *_own(ask), *ask.around.values()]
    rng.shuffle(words)
    return ", ".join(words)


def _counts(ask: Ask) -> list[str]:
    return count_tags(ask.scene)


def _own(ask: Ask) -> list[str]:
    return [tag for said in ask.people for slot, tag in said.items() if slot != "gender"]


def spaced(form: Form) -> Form:
    """A form with spaces for underscores."""
    return lambda ask, rng: form(ask, rng).replace("_", " ")


def flat_strangers(share: float) -> Form:
    """Flat tags after the count in any order, `share` of them words that say nothing."""

    def write(ask: Ask, rng: Random) -> str:
        known = [*_own(ask), *ask.around.values()]
        words = [*known, *_strangers(len(known), share, rng)]
        rng.shuffle(words)
        return ", ".join([*_counts(ask), *words])

    return write


def xml_strangers(share: float) -> Form:
    """XML, in whose appearance stand words that say nothing: `share` of all tags."""

    def write(ask: Ask, rng: Random) -> str:
        people = []
        for said in ask.people:
            words = _strangers(len(said), share, rng)
            people.append({**said, **({"stranger": ", ".join(words)} if words else {})})
        return _document(_blocks(people), ask.around)

    return write


def _strangers(known: int, share: float, rng: Random) -> list[str]:
    """So many that `share` of all words are unknown, on the average."""
    wanted = known * share / (1 - share)
    count = int(wanted) + (rng.random() < wanted % 1)
    return [stranger(rng) for _ in range(count)]


def named(form: Form, taught: bool) -> Form:
    """A form in which everybody has a name, one of training's or none of them."""
    names = sorted(NAMES) if taught else _UNTAUGHT_NAMES

    def write(ask: Ask, rng: Random) -> str:
        chosen = rng.sample(names, len(ask.people))
        people = tuple(
            {"name": name, **said} for name, said in zip(chosen, ask.people, strict=True)
        )
        return form(Ask(ask.scene, people, ask.around, ask.index), rng)

    return write


def captioned(form: Form, language: str) -> Form:
    """A form with one sentence that says nothing else."""

    def write(ask: Ask, rng: Random) -> str:
        text, sentence = form(ask, rng), rng.choice(CAPTIONS[language])
        return f"{text}\n<caption>{sentence}</caption>" if "<" in text else f"{text}\n{sentence}"

    return write


def prose(language: str) -> Form:
    """A sentence for each, made otherwise than those of training."""

    def write(ask: Ask, rng: Random) -> str:
        last = len(ask.people) - 1
        told = [
            _sentence(said, ask.around if number == last else {}, language)
            for number, said in enumerate(ask.people)
        ]
        return (" " if language == "en" else "").join(told)

    return write


def _sentence(said: Said, around: Said, language: str) -> str:
    things = [(slot, tag) for slot, tag in (*said.items(), *around.items()) if slot != "gender"]
    if language == "en":
        return f"An anime {said['gender'][1:]}: {', '.join(_spaced(tag) for _, tag in things)}."
    table = PHRASES[language]
    words = [_phrase(table, slot, tag) for slot, tag in things]
    who = table["gender"][said["gender"]].split("|")[0]
    if language == "ja":
        return f"アニメの{who}。{'、'.join(words)}。"
    return f"动漫{who}，{'，'.join(words)}。"


def _spaced(tag: str) -> str:
    return tag.replace("_", " ")


def _phrase(table: Table, slot: str, tag: str) -> str:
    """A tag in the words of another language; a garment's with its colour."""
    if slot != "garment":
        value = next(each for each, (first, *_) in TAGS[slot].items() if tag == first)
        return table[slot][value].split("|")[0]
    colour, garment = tag.split("_", maxsplit=1)
    value = next(each for each, (first, *_) in TAGS[slot].items() if garment == first)
    return "".join(table[name][one].split("|")[0]
                   for name, one in (("garment_color", colour), ("garment", value)))  # fmt: skip
