"""What belongs to whom among tags that name nobody: by slots that one character has once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby

from sakuga.prompt.mention import Mention, Role
from sakuga.prompt.slots import allows_two, decides

_GENDERED = {
    "girl": ("breasts", "cleavage", "dress", "skirt", "bra", "panties", "female", "serafuku"),
    "boy": ("beard", "mustache", "stubble", "facial_hair", "male", "pectorals", "gakuran"),
}
_SORTED = 6  # tags in the order of their letters are in no order of people


@dataclass(slots=True)
class Shares:
    """Tags by owner: one list for each character, what all have, what nobody can tell."""

    owned: list[list[Mention]]
    shared: list[Mention] = field(default_factory=list)
    unsure: list[Mention] = field(default_factory=list)


def gender_of(key: str) -> str:
    """girl or boy, where a tag is mostly of one; else empty."""
    last = key.rpartition("_")[2]
    return next((kind for kind, words in _GENDERED.items() if last in words or key in words), "")


def is_sorted(mentions: Sequence[Mention]) -> bool:
    """Whether tags are in the order of the alphabet, as sites list them."""
    keys = [one.key for one in mentions if one.role is not Role.CAPTION]
    return len(keys) >= _SORTED and keys == sorted(keys)


def share(own: Sequence[Mention], number: int, *, mixed: bool) -> Shares:
    """Tags dealt out to `number` characters; `mixed`: of several genders.

    Pairs of one slot side by side go one to each; else the next character begins where a slot
    that one has once comes again. Too many are nobody's; where nothing comes again, all have it.
    """
    if (rows := _in_rows(own, number)) is not None:
        return rows
    if _kinds_in_turn(own) > number > 1:
        once = [one for one in own if _decided(one, mixed=False)]
        return Shares([[] for _ in range(number)], [o for o in own if o not in once], once)
    groups = _in_turn(own, mixed=mixed)
    if len(groups) > number:
        return Shares([[] for _ in range(number)], [], list(own))
    if len(groups) == 1 < number:
        unsure = [one for one in own if mixed and _decided(one, mixed=False)]
        shared = [one for one in own if one not in unsure]
        return Shares([[] for _ in range(number)], shared, unsure)
    return Shares(groups + [[] for _ in range(number - len(groups))])


def _decided(one: Mention, *, mixed: bool) -> Mapping[str, frozenset[str]]:
    """What one character has but once, of which kinds; among several genders also that."""
    gender = gender_of(one.key) if mixed else ""
    return {**decides(one.key), **({"gender": frozenset({gender})} if gender else {})}


def _in_rows(own: Sequence[Mention], number: int) -> Shares | None:
    """`blue hair, pink hair, red eyes, green eyes`: the first of each for the first."""
    if own and own[-1].place - own[0].place != len(own) - 1:
        return None  # something stands between
    runs = [list(run) for _, run in groupby(own, key=lambda one: one.slot)]
    deciding = [run for run in runs if decides(run[0].key)]
    if number < 2 or not deciding or any(len(run) != number for run in deciding):
        return None
    shares = Shares([[] for _ in range(number)])
    for run in runs:
        if len(run) == number and (decides(run[0].key) or run[0].slot == "hair style"):
            for owner, one in zip(shares.owned, run, strict=True):
                owner.append(one)
        else:
            shares.shared += run
    return shares


def _kinds_in_turn(own: Sequence[Mention]) -> int:
    """The longest run of values of one slot that one character has once."""
    runs = groupby(own, key=lambda one: next(iter(decides(one.key)), ""))
    alone = (list(run) for slot, run in runs if slot)
    return max((len(run) for run in alone if not _two_meant(run)), default=0)


def _two_meant(run: Sequence[Mention]) -> bool:
    return any(allows_two(slot, one.key) for one in run for slot in decides(one.key))


def _in_turn(own: Sequence[Mention], *, mixed: bool) -> list[list[Mention]]:
    groups: list[list[Mention]] = [[]]
    for one in own:
        if _repeats(one, groups[-1], mixed=mixed):
            groups.append(_heading(groups))
        groups[-1].append(one)
    return groups


def _repeats(one: Mention, group: list[Mention], *, mixed: bool) -> bool:
    for slot, kinds in _decided(one, mixed=mixed).items():
        earlier = [other for other in group if slot in _decided(other, mixed=mixed)]
        two = slot != "gender" and any(allows_two(slot, other.key) for other in [one, *group])
        if not two and any(kinds.isdisjoint(_decided(o, mixed=mixed)[slot]) for o in earlier):
            return True
    return False


def _heading(groups: list[list[Mention]]) -> list[Mention]:
    """What stands before a repeated slot and belongs to it, as it did in the first group."""
    lead = {one.slot for one in groups[0][: _first_decided(groups[0])]}
    current = groups[-1]
    at = len(current)
    while at > _first_decided(current) + 1 and current[at - 1].slot in lead:
        at -= 1
    taken = current[at:]
    del current[at:]
    return taken


def _first_decided(group: list[Mention]) -> int:
    return next((at for at, one in enumerate(group) if decides(one.key)), len(group))
