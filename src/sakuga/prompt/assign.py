"""Who is in a flat prompt, and which of its tags belong to whom.

Regions (`|`, BREAK) and lines that each tell of one character decide first; then names, sides
and counts, to which what follows belongs until the next one (or what goes before, where the
last of them ends the list); then slots that one character has once. What stays unsure goes to
all characters or to the whole picture, whichever harms less, and is told with its place.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from sakuga.prompt import genders
from sakuga.prompt.flat_parts import FlatParts
from sakuga.prompt.genders import Person
from sakuga.prompt.grouping import ANCHORS, Claims, group_by_anchors
from sakuga.prompt.mention import Mention, Role
from sakuga.prompt.rules import Found
from sakuga.prompt.sharing import is_sorted, share

OWNER = "unsure-owner"
TAG = "unsure-tag"
UNSURE = (OWNER, TAG)
MOST = 12  # characters; more are a crowd

_OWNED = {Role.OWN, Role.MUTUAL, Role.SHARED}
_PICTURE = {Role.GENERAL, Role.UNKNOWN}
_WHO = {Role.PERSON, Role.NAME, Role.LABEL}
_NAME_WORDS = 3
_NUMERALS = "1一"  # by which one is counted, not only spoken of


@dataclass(slots=True)
class Cast:
    """Everybody of a prompt, what belongs to the whole picture, and what was not sure."""

    people: list[Person]
    general: list[Mention]
    captions: list[Mention]
    found: list[Found]


@dataclass(frozen=True, slots=True)
class Census:
    """How many there are by counts, of each kind and in all.

    `exact`: whether there are just as many. `written`: what is told of it in <count>.
    """

    each: Mapping[str, int]
    number: int
    exact: bool
    written: tuple[Mention, ...]


def assign(parts: FlatParts) -> Cast:
    """The characters of a prompt."""
    mentions = _known_again(parts.mentions)
    captions = [one for one in mentions if one.role is Role.CAPTION]
    mentions = [one for one in mentions if one.role is not Role.CAPTION]
    census, mentions = _count(mentions, parts.regions)
    mentions = _guessed_names(mentions, census)
    cast = Cast([], list(census.written), captions, [])
    split = _regions(mentions, parts, census) or _lines(mentions, census)
    if split:
        common, groups = split
        for group in groups:
            cast.people.append(_person(group, cast))
        held = share([one for one in common if one.role in _OWNED], 1, mixed=False)
        _to_all([*held.owned[0], *held.shared], cast, "it stands apart from each")
        _to_picture(held.unsure, cast, "nothing says whose it is")
        cast.general += [one for one in common if one.role in _PICTURE]
    else:
        _in_order(mentions, census, cast)
    _keep_the_rest(mentions, cast)
    genders.name(cast.people, census.each)
    cast.found += _unknown(mentions)
    return cast


def _known_again(mentions: Sequence[Mention]) -> list[Mention]:
    """Without those of a sentence who were spoken of before: `the girl`, who is not elsewhere."""
    kept: list[Mention] = []
    for at, one in enumerate(mentions):
        beside = any(other.role is Role.SIDE for other in mentions[at + 1 : at + 2])
        again = one.definite and not beside and any(other.kind == one.kind for other in kept)
        if not again:
            kept.append(one)
    return kept


def _count(mentions: Sequence[Mention], regions: int) -> tuple[Census, list[Mention]]:
    """What counts come to, and the rest: `1girl` may count, or begin what belongs to her."""
    stated = [one for one in mentions if one.role is Role.COUNT]
    rest = [one for one in mentions if one.role is not Role.COUNT]
    people = [one for one in rest if one.role is Role.PERSON]
    owned = next((at for at, one in enumerate(rest) if one.role is Role.OWN), len(rest))
    before = _first_of_each(one for one in rest[:owned] if one.role is Role.PERSON)
    behind = len(people) - len(before)
    said = {kind for one in stated for kind, *_ in one.people} - {"people"}
    counting = [one for one in before if one.kind not in said and (said or len(before) > 1)]
    if not behind and not said:
        counting = before
    each: dict[str, int] = {}
    more = False
    for kind, number, least in (count for one in stated for count in one.people):
        each[kind] = max(each.get(kind, 0), number)
        more = more or least
    for one in counting or ([] if said else people):
        each[one.kind] = each.get(one.kind, 0) + 1
    everybody = each.pop("people", 0)
    digits = counting if regions > 1 else people
    written = [*stated, *(one for one in digits if one.key[:1] in _NUMERALS)]
    written.sort(key=lambda one: one.span.start)
    number = max(sum(each.values()), everybody)
    once = tuple({one.key: one for one in written}.values())
    census = Census(each, number, bool(number) and not more, once)
    counted = {id(one) for one in counting}
    return census, [one for one in rest if id(one) not in counted]


def _guessed_names(mentions: Sequence[Mention], census: Census) -> list[Mention]:
    """Unknown words beside a name are one, too, where fewer are known than there are people."""
    places = {one.place for one in mentions if one.role is Role.NAME}
    if not 0 < len(places) < census.number:
        return list(mentions)
    return [
        replace(one, role=Role.NAME, field="n", guessed=True)
        if one.role is Role.UNKNOWN and {one.place - 1, one.place + 1} & places
        and one.text.count(" ") + one.text.count("_") < _NAME_WORDS else one
        for one in mentions
    ]  # fmt: skip


def _first_of_each(people: Iterable[Mention]) -> list[Mention]:
    """Persons of the first region up to the first who is counted twice."""
    found: dict[str, Mention] = {}
    for one in people:
        if one.kind in found or one.region:
            break
        found[one.kind] = one
    return list(found.values())


def _regions(
    mentions: Sequence[Mention], parts: FlatParts, census: Census
) -> tuple[list[Mention], list[list[Mention]]] | None:
    """What is for all, and what each character's region says; None without such regions."""
    if parts.regions < 2:
        return None
    groups = [[one for one in mentions if one.region == region] for region in range(parts.regions)]
    own = [group for group in groups if _tells(group)]
    first_is_common = parts.common or (census.number > 1 and len(own) > census.number)
    if first_is_common and own and own[0] is groups[0]:
        own = own[1:]
    anchored = sum(any(one.role in _WHO for one in group) for group in own)
    if len(own) < 2 or (anchored < 2 and census.number not in (0, len(own))):
        return None
    return [one for group in groups if group not in own for one in group], own


def _lines(
    mentions: Sequence[Mention], census: Census
) -> tuple[list[Mention], list[list[Mention]]] | None:
    """The same of lines, where as many tell of a character as there are."""
    lines: dict[tuple[int, int], list[Mention]] = {}
    for one in mentions:
        lines.setdefault((one.region, one.line), []).append(one)
    own = [line for line in lines.values() if _tells(line) and len(line) > 1]
    if not 1 < len(own) == census.number or len(lines) < 2:
        return None
    return [one for line in lines.values() if line not in own for one in line], own


def _tells(group: Iterable[Mention]) -> bool:
    return any(one.role in _WHO or one.role is Role.OWN for one in group)


def _person(group: Iterable[Mention], cast: Cast) -> Person:
    """A character by all that is said in one place; what belongs to the picture goes there."""
    person = Person()
    for one in group:
        if one.role in ANCHORS:
            person.anchors.append(one)
        elif one.role in _OWNED:
            person.own.append(one)
        else:
            cast.general.append(one)
    return person


def _in_order(mentions: Sequence[Mention], census: Census, cast: Cast) -> None:
    """Characters of a prompt that has no places for them but its order."""
    number = _number(mentions, census)
    cast.people = [Person() for _ in range(number)]
    cast.general += [one for one in mentions if one.role in _PICTURE]
    if number == 1:
        cast.people = [_person([one for one in mentions if one.role not in _PICTURE], cast)]
        return
    if not number:
        cast.general += [one for one in mentions if one.role in _OWNED]
        return
    mutual = [one for one in mentions if one.role in {Role.MUTUAL, Role.SHARED}]
    groups = group_by_anchors(mentions)
    if is_sorted(mentions):
        own = [one for one in mentions if one.role is Role.OWN]
        for person, group in zip(cast.people, groups.groups, strict=False):
            person.anchors += group.anchors
        _to_picture(own, cast, "tags in the order of the alphabet do not say whose they are")
    else:
        _deal(groups, cast, mixed=len([n for n in census.each.values() if n]) > 1)
    for person in cast.people:
        person.own += mutual


def _number(mentions: Sequence[Mention], census: Census) -> int:
    """How many characters there are: by exact counts, else by names, else one who has something."""
    if census.exact and census.number:
        return min(census.number, MOST)
    sure = [one for one in mentions if not one.guessed]
    names = max(
        len({one.key for one in sure if one.role is role}) for role in (Role.NAME, Role.LABEL)
    )
    if "no_humans" in census.each:
        return 0
    least = 1 if any(one.role in {*ANCHORS, Role.OWN, Role.SHARED} for one in mentions) else 0
    return min(max(census.number, names, least), MOST)


def _deal(groups: Claims, cast: Cast, *, mixed: bool) -> None:
    """The tags of groups to characters: a group for each, or fewer groups that hold several."""
    people, given = cast.people, groups.groups[: len(cast.people)]
    over = [one for group in groups.groups[len(people) :] for one in group.own]
    _to_picture(over, cast, "there are more groups than characters")
    spare, at = len(people) - len(given), 0
    for group in given:
        held = share(group.own, 1 + spare, mixed=mixed and spare > 0)
        used = max([1, *(place + 1 for place, own in enumerate(held.owned) if own)])
        people[at].anchors += group.anchors
        for place in range(used):
            people[at + place].own += held.owned[place]
        if len(given) == 1 or used > 1:
            _to_all(held.shared, cast, "nothing says whose it is")
        else:
            people[at].own += held.shared
        _to_picture(held.unsure, cast, "nothing says whose it is")
        spare -= used - 1
        at += used
    for anchors, person in zip(groups.block, people, strict=False):
        person.anchors = [*anchors, *(one for one in person.anchors if one not in anchors)]
    _to_all(groups.before, cast, "it stands before the first of them")
    _to_all(groups.after, cast, "it stands behind what belongs to the picture")


def _to_all(mentions: Iterable[Mention], cast: Cast, why: str) -> None:
    number = len(cast.people)
    for one in mentions:
        for person in cast.people:
            person.own.append(one)
        if one.role is Role.OWN:
            reason = f"{one.text} is read as what all {number} characters have, for {why}"
            cast.found.append(Found(OWNER, one.span, reason, "Write it behind a name or a side."))


def _to_picture(mentions: Iterable[Mention], cast: Cast, why: str) -> None:
    for one in mentions:
        cast.general.append(replace(one, role=Role.GENERAL, field="other"))
        reason = f"{one.text} is nobody's, for {why}"
        fix = "Write the tags of each character together, behind a name or a side, or parted by |."
        cast.found.append(Found(OWNER, one.span, reason, fix))


def _keep_the_rest(mentions: Iterable[Mention], cast: Cast) -> None:
    """To the picture what has found nobody: nothing that is said gets lost."""
    placed = {one.place for person in cast.people for one in (*person.anchors, *person.own)}
    placed |= {one.place for one in cast.general}
    said = [one for one in mentions if one.role not in {Role.PERSON, Role.LABEL}]
    _to_picture([one for one in said if one.place not in placed], cast, "it stands beside nobody")


def _unknown(mentions: Iterable[Mention]) -> Iterator[Found]:
    """What was placed by its look, or not at all."""
    for one in mentions:
        if one.role is Role.UNKNOWN:
            reason = f"nobody knows what {one.text} describes, so it stands in <other>"
            yield Found(TAG, one.span, reason, "Move it where it belongs.")
        elif one.guessed:
            reason = f"{one.text} is read as a name, as it is written, or stands, like one"
            yield Found(TAG, one.span, reason, "Move it to <other> if it is none.")
