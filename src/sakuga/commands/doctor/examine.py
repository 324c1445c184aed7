"""An examination: what is quick and needs no torch first, the drawing last; nothing ends it."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from sakuga.checkpoint.catalog import locate
from sakuga.checkpoint.folder import open_checkpoint, read_inventory
from sakuga.checkpoint.manifest import MANIFEST
from sakuga.commands.doctor.computer import computer
from sakuga.commands.doctor.files import Components, digests, parts, wanted, whole
from sakuga.commands.doctor.finding import RED, Diagnoses, Diagnosis, green, trouble, yellow
from sakuga.commands.doctor.words import tokenizers
from sakuga.memory.host import host_memory
from sakuga.model.inventory import Inventory, inventory_of
from sakuga.model.spec import NEWBIE_3_5B
from sakuga.printable import readable

QUICK = 256 << 20  # bytes that are hashed in a fraction of a second


@dataclass(frozen=True, slots=True)
class Visit:
    """What is examined, and how closely.

    model: a name or a folder. hash: compare even large files with their digests. scan: look
    at every number instead of a sample. draw: end with a drawing of one step.
    """

    model: str
    device: str = "auto"
    dtype: str = "auto"
    hash: bool = False
    scan: bool = False
    draw: bool = True


def examine(visit: Visit, find: Callable[[str], Path] = locate) -> Diagnoses:
    """Every finding, as it is made. Raises nothing: what fails is a finding, too.

    find: gives the folder of a model, by its name.
    """
    yield from _guarded("computer", computer())
    try:
        folder = find(visit.model)
    except Exception as error:
        yield trouble("model", error)
        yield from _guarded("torch", _graphics(inventory_of(NEWBIE_3_5B), visit))
        return
    problems = 0
    for finding in _look(folder, visit):
        problems += finding.colour == RED
        yield finding
    if visit.draw:
        yield from _guarded("drawing", _draw(folder, visit, problems))


def _look(folder: Path, visit: Visit) -> Diagnoses:
    """All that can be said of a model, and of this computer for it, without drawing."""
    components = yield from parts(folder)
    yield from _guarded("model", whole(folder, components))
    yield from _guarded("tokenizer", tokenizers(folder, components))
    yield from _guarded("hashes", _digests(folder, components, visit))
    yield from _guarded("torch", _graphics(_inventory(folder), visit))
    if components:
        yield from _guarded("values", _values(components, visit))


def _guarded(check: str, findings: Diagnoses) -> Iterator[Diagnosis]:
    """The findings of a check; what it raises becomes the last of them."""
    try:
        yield from findings
    except Exception as error:
        yield trouble(check, error)


def _inventory(folder: Path) -> Inventory:
    try:
        return read_inventory(open_checkpoint(folder))
    except Exception:  # told already; the real model stands in
        return inventory_of(NEWBIE_3_5B)


def _digests(folder: Path, components: Components, visit: Visit) -> Diagnoses:
    """Compare what is asked for, and what is compared in a blink."""
    size = sum(file.stat().st_size for part in components.values() for file in part.store.files)
    if visit.hash or ((folder / MANIFEST).is_file() and size <= QUICK):
        yield from digests(folder, components)
    elif size:
        yield green("hashes", f"{readable(size)} not compared with their digests; --hash does")


# torch takes a second to import: what is known without it stands on the terminal by then.


def _graphics(inventory: Inventory, visit: Visit) -> Diagnoses:
    from sakuga.commands.doctor.graphics import graphics
    from sakuga.commands.environment import caches

    yield from graphics(inventory, visit.device, visit.dtype, caches())


def _values(components: Components, visit: Visit) -> Diagnoses:
    from sakuga.commands.doctor.values import values

    yield from values(components, everything=visit.scan)


def _draw(folder: Path, visit: Visit, problems: int) -> Diagnoses:
    """The drawing, unless it is known how it would end."""
    if problems:
        yield yellow("drawing", "not tried", "Mend what is red first.")
        return
    from sakuga.commands.doctor.smoke import smoke
    from sakuga.memory.device import choose_device

    need, (_, free) = _float32_bytes(folder), host_memory()
    if choose_device(visit.device).type == "cpu" and free and need > free:
        text = f"not tried: on the CPU it takes {readable(need)}, and {readable(free)} are free"
        yield yellow("drawing", text, "Draw on a card, or close other programs.")
        return
    yield smoke(folder, visit.device, visit.dtype)


def _float32_bytes(folder: Path) -> int:
    """What all weights take as a CPU computes with them."""
    parts = open_checkpoint(folder).components
    return 4 * sum(math.prod(shape) for part in parts for shape in wanted(part).values())
