"""Of which gender each character is: girl, boy or other."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from sakuga.prompt.mention import Mention, Role
from sakuga.prompt.sharing import gender_of


@dataclass(slots=True)
class Person:
    """A character: what says who it is, what it has, its gender, or nothing for one unknown."""

    anchors: list[Mention] = field(default_factory=list)
    own: list[Mention] = field(default_factory=list)
    kind: str = ""

    def of(self, role: Role) -> Iterator[Mention]:
        """What of this role says who it is."""
        return (one for one in self.anchors if one.role is role)


def name(people: Sequence[Person], each: Mapping[str, int]) -> None:
    """Give each its gender: as said, else by a known name, else by what it has, else in order.

    each: how many there are of a kind, in the order of the text.
    """
    left = dict(each)

    def take(person: Person, kind: str) -> None:
        person.kind = kind
        left[kind] = left.get(kind, 0) - 1

    for person in people:
        said = [one for one in person.anchors if one.role in {Role.PERSON, Role.LABEL} and one.kind]
        if said:
            take(person, said[0].kind)
    for told in (_by_name, _by_looks, lambda person: next((k for k in left if left[k] > 0), "")):
        for person in people:
            kind = "" if person.kind else told(person)
            if kind and (left.get(kind, 0) > 0 or not any(each.values())):
                take(person, kind)
    for person in people:
        if not person.kind and any(person.of(Role.NAME)):
            person.kind = "girl"  # as most are who have a name


def _by_name(person: Person) -> str:
    return next((one.kind for one in person.of(Role.NAME) if one.kind), "")


def _by_looks(person: Person) -> str:
    told = {gender_of(one.key) for one in person.own} - {""}
    return told.pop() if len(told) == 1 else ""
