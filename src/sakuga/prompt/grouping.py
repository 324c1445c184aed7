"""A list of tags cut where names, sides and counts begin or end what belongs to one character."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from sakuga.prompt.mention import Mention, Role
from sakuga.prompt.slots import decides

# Who comes to speak of these is done with the characters; of objects one may speak between.
_PLACES = {"background", "environment", "perspective", "lighting", "atmosphere", "style", "quality"}
ANCHORS = {Role.PERSON, Role.NAME, Role.SIDE, Role.LABEL}


@dataclass(slots=True)
class Claim:
    """What says who somebody is, and the tags beside it."""

    anchors: list[Mention] = field(default_factory=list)
    own: list[Mention] = field(default_factory=list)

    def takes(self, one: Mention) -> bool:
        """Whether an anchor may say more of the same one: nobody has two names or sides."""
        return not self.own and one.role not in {other.role for other in self.anchors}


@dataclass(slots=True)
class Claims:
    """Claims in the order of characters; `block`: who was told of before, in that order.

    `before` and `after`: tags that stand before the first group, and behind the last one and
    something that belongs to the picture.
    """

    groups: list[Claim]
    block: list[list[Mention]] = field(default_factory=list)
    before: list[Mention] = field(default_factory=list)
    after: list[Mention] = field(default_factory=list)


def group_by_anchors(mentions: Sequence[Mention]) -> Claims:
    """The groups of a list; one without anchors where nothing cuts it."""
    stream, after = _without_tail(mentions)
    groups = _groups(stream)
    before = groups[0].own
    marked = groups[1:]
    block: list[list[Mention]] = []
    while len(marked) > 1 and not marked[0].own and not before:
        block.append(marked.pop(0).anchors)
    if block and (len(marked) == 1 or not marked[-1].own):
        if len(marked) > 1:  # the list ends in sides, which close what stands before them
            return Claims(_closed(marked), [*block, marked[0].anchors], [], after)
        last = marked[0]
        return Claims([Claim([], last.own)], [*block, last.anchors], [], after)
    if not marked:
        return Claims([Claim([], before)], [], [], after)
    if before and len(marked) > 1 and not any(claim.own for claim in marked):
        # All tags, then all names.
        return Claims([Claim([], before)], [claim.anchors for claim in marked], [], after)
    if before and not marked[-1].own:
        marked, before = _closed(groups), []
    return Claims(marked, block, before, after)


def _closed(groups: list[Claim]) -> list[Claim]:
    """Claims whose anchors stand behind them."""
    return [Claim(behind.anchors, group.own) for group, behind in pairwise(groups)]


def _groups(stream: Sequence[Mention]) -> list[Claim]:
    """What stands before the first anchor, then a group for each."""
    groups, behind = [Claim()], _sides_are_behind(stream)
    for one in stream:
        if one.role in ANCHORS:
            closes = behind and one.role is Role.SIDE
            if not closes and (len(groups) == 1 or not groups[-1].takes(one)):
                groups.append(Claim())
            groups[-1].anchors.append(one)
        elif one.role is Role.OWN:
            groups[-1].own.append(one)
    return groups


def _sides_are_behind(stream: Sequence[Mention]) -> bool:
    """Whether each begins with who it is and something of it, and only then says where it is."""
    anchors = [(at, one.role is Role.SIDE) for at, one in enumerate(stream) if one.role in ANCHORS]
    turns = [side for _, side in anchors]
    if len(turns) < 4 or turns != [False, True] * (len(turns) // 2):
        return False
    return all(side or stream[at + 1].role is Role.OWN for at, side in anchors)


def _without_tail(mentions: Sequence[Mention]) -> tuple[list[Mention], list[Mention]]:
    """The list up to its last group, and what stands behind that and something of the picture.

    Where names or sides tell of each, what follows is of the last.
    """
    if any(one.role in ANCHORS for one in mentions):
        return [*mentions], []
    last = max((at for at, one in enumerate(mentions) if _begins(one)), default=len(mentions))
    cuts = [
        at
        for at, one in enumerate(mentions)
        if at > last and (one.role is Role.MUTUAL or one.field in _PLACES)
    ]
    tail = cuts[0] if cuts and any(one.role is Role.OWN for one in mentions[last:]) else None
    behind = [one for one in mentions[tail:] if one.role is Role.OWN] if tail else []
    return [*mentions[:tail]], behind


def _begins(one: Mention) -> bool:
    """Whether a mention may begin a character, or belongs to one alone."""
    return one.role in ANCHORS or (one.role is Role.OWN and bool(decides(one.key)))
