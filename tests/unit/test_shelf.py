"""A folder that processes share: whole files, a bound that holds, nothing else touched."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from sakuga.files.atomic import sweep
from sakuga.files.shelf import Shelf, cache_folder

HAMMER = """
import hashlib, random, sys, time
from pathlib import Path
from sakuga.files.shelf import Shelf
folder, seconds, seed = Path(sys.argv[1]), float(sys.argv[2]), int(sys.argv[3])
shelf, pick = Shelf(folder, ".x", 100_000), random.Random(seed)
names = [hashlib.sha256(bytes([i])).hexdigest() for i in range(9)]
end = time.monotonic() + seconds
print("ready", flush=True)
found = 0
while time.monotonic() < end:
    name, act = pick.choice(names), pick.random()
    whole = name.encode() * 320  # 20,480 bytes: four of the nine fit
    if act < 0.5:
        shelf.write(name, whole)
    elif act < 0.95:
        data = shelf.read(name)
        assert data in (None, whole), (len(data), data[:9])
        found += data is not None
    else:
        shelf.drop(name)
print(found)
"""


def name(of: int) -> str:
    return hashlib.sha256(bytes([of])).hexdigest()


def hammer(folder: Path, seconds: float, seed: int) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", HAMMER, str(folder), str(seconds), str(seed)]
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, encoding="utf-8"
    )


def test_processes_see_whole_files_and_keep_the_bound(tmp_path: Path) -> None:
    """Two that work to the end, and one that dies on the way."""
    victim, *others = [hammer(tmp_path / "made" / "later", s, s) for s in (9, 1, 1)]
    with victim, others[0], others[1]:
        assert victim.stdout is not None
        victim.stdout.readline()
        time.sleep(0.3)
        victim.kill()
        for one in others:
            said, errors = one.communicate()
            assert one.returncode == 0, errors
            assert int(said.split()[-1]) > 0
    files = list((tmp_path / "made" / "later").iterdir())
    whole = [file for file in files if file.suffix == ".x"]
    assert all(file.read_bytes() == file.stem.encode() * 320 for file in whole)
    assert 0 < sum(file.stat().st_size for file in whole) <= 100_000
    assert len(files) - len(whole) <= 1  # the draft of the one that was killed


def test_the_longest_unused_goes_first(tmp_path: Path) -> None:
    shelf = Shelf(tmp_path, ".x", 35)
    for i, age in enumerate((30, 40, 20)):
        shelf.write(name(i), bytes(10))
        os.utime(shelf.file(name(i)), (time.time() - age,) * 2)
    assert shelf.read(name(1)) == bytes(10)  # the oldest of all, and now the last one used
    shelf.write(name(3), bytes(10))
    assert [shelf.read(name(i)) is not None for i in range(4)] == [False, True, True, True]
    shelf.write(name(4), bytes(34))
    assert [shelf.read(name(i)) is not None for i in range(5)] == [False] * 4 + [True]


def test_writing_again_makes_room_for_one(tmp_path: Path) -> None:
    shelf = Shelf(tmp_path, ".x", 30)
    for i in (0, 1, 2, 2, 2):
        shelf.write(name(i), bytes(10))
    assert all(shelf.read(name(i)) == bytes(10) for i in range(3))


def test_the_newest_stays_when_others_claim_to_be_of_tomorrow(tmp_path: Path) -> None:
    shelf = Shelf(tmp_path, ".x", 20)
    for i in range(2):
        shelf.write(name(i), bytes(10))
        os.utime(shelf.file(name(i)), (time.time() + 86400 + i,) * 2)
    shelf.write(name(2), bytes(10))
    assert [shelf.read(name(i)) is not None for i in range(3)] == [False, True, True]


def test_what_alone_passes_the_limit_is_not_kept_and_costs_nobody_a_place(tmp_path: Path) -> None:
    shelf = Shelf(tmp_path, ".x", 20)
    shelf.write(name(0), bytes(20))
    shelf.write(name(1), bytes(21))
    assert shelf.read(name(0)) == bytes(20)
    assert shelf.read(name(1)) is None


def test_files_of_others_are_neither_counted_nor_removed(tmp_path: Path) -> None:
    mine = {"lora.x": 50, f"{name(0)}.y": 50, f"{name(0).upper()}.x": 50, ".sakuga-notes": 1}
    for file, size in mine.items():
        (tmp_path / file).write_bytes(bytes(size))
        os.utime(tmp_path / file, (1, 1))
    shelf = Shelf(tmp_path, ".x", 20)
    for i in range(4):
        shelf.write(name(i), bytes(10))
    assert {file.name for file in tmp_path.iterdir()} == {
        *mine, f"{name(2)}.x", f"{name(3)}.x"
    }  # fmt: skip


def test_drafts_of_the_dead_are_swept_after_an_hour(tmp_path: Path) -> None:
    for file, age in ((".sakuga-old.part", 3700), (".sakuga-new.part", 3500), ("x.part", 9999)):
        (tmp_path / file).touch()
        os.utime(tmp_path / file, (time.time() - age,) * 2)
    Shelf(tmp_path, ".x", 20).write(name(0), b"")
    assert {file.name for file in tmp_path.iterdir()} == {
        ".sakuga-new.part", "x.part", f"{name(0)}.x"
    }  # fmt: skip
    with pytest.raises(FileNotFoundError):
        sweep(tmp_path / "none")


@pytest.mark.parametrize(
    ("platform", "environ", "folder"),
    [
        ("linux", {"HOME": "/h"}, "/h/.cache/sakuga"),
        ("linux", {"HOME": "/h", "XDG_CACHE_HOME": "/x"}, "/x/sakuga"),
        ("linux", {"HOME": "/h", "XDG_CACHE_HOME": "x"}, "/h/.cache/sakuga"),
        ("linux", {"HOME": "/h", "XDG_CACHE_HOME": ""}, "/h/.cache/sakuga"),
        ("linux", {"XDG_CACHE_HOME": "/x", "SAKUGA_CACHE": "s"}, "s"),
        ("linux", {"HOME": "/h", "SAKUGA_CACHE": ""}, "/h/.cache/sakuga"),
        ("linux", {}, None),
        ("darwin", {"HOME": "/h", "XDG_CACHE_HOME": "/x"}, "/h/Library/Caches/sakuga"),
        ("win32", {"LOCALAPPDATA": "/l", "HOME": "/h"}, "/l/sakuga/Cache"),
        ("win32", {"USERPROFILE": "/u"}, "/u/AppData/Local/sakuga/Cache"),
        ("win32", {"HOME": "/h"}, None),
    ],
)
def test_the_folder_follows_the_habits_of_the_system(platform, environ, folder) -> None:
    assert cache_folder(environ, platform) == (folder and Path(folder))
