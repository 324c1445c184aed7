"""A weight file is hashed once, and again when anything about it changed."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from sakuga.checkpoint.catalog import locate
from sakuga.checkpoint.folder import open_checkpoint
from sakuga.commands.doctor.finding import GREEN
from sakuga.commands.doctor.smoke import smoke
from sakuga.weights import digests
from sakuga.weights.digests import DigestCache
from sakuga.weights.sha256 import hash_file

HAMMER = """
import sys
from pathlib import Path
from sakuga.weights.digests import DigestCache
folder, mine = Path(sys.argv[1]), sorted(Path(sys.argv[2]).iterdir())
for turn in range(20):
    for file in mine:
        assert DigestCache(folder, settled=0).of(file).startswith(file.name), file
"""


@pytest.fixture
def hashed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the files that were read whole, in order."""
    names: list[str] = []

    def count(file: Path) -> str:
        names.append(file.name)
        return hash_file(file)

    monkeypatch.setattr(digests, "hash_file", count)
    return names


def cache(folder: Path) -> DigestCache:
    return DigestCache(folder / "cache", settled=0)


def test_another_process_need_not_hash(tmp_path: Path, hashed: list[str]) -> None:
    file = tmp_path / "a"
    file.write_bytes(b"abc")
    link = tmp_path / "link"
    link.symlink_to(file)
    wanted = hashlib.sha256(b"abc").hexdigest()
    assert [cache(tmp_path).of(one) for one in (file, file, link)] == [wanted] * 3
    assert hashed == ["a"]
    with pytest.raises(FileNotFoundError):
        cache(tmp_path).of(tmp_path / "none")


def test_whatever_changes_is_hashed_again(tmp_path: Path, hashed: list[str]) -> None:
    file = tmp_path / "a"
    file.write_bytes(b"abc")
    os.utime(file, ns=(1, 1))
    known = cache(tmp_path)

    def put_back(data: bytes) -> None:
        """Another file of the same size and time in its place."""
        (tmp_path / "b").write_bytes(data)
        os.utime(tmp_path / "b", ns=(1, 1))
        os.replace(tmp_path / "b", file)

    def rewrite(data: bytes) -> None:
        """The same file, with its time put back."""
        file.write_bytes(data)
        os.utime(file, ns=(1, 1))

    for change, data in ((put_back, b"abd"), (rewrite, b"abe"), (rewrite, b"longer")):
        assert known.of(file) == hash_file(file)
        change(data)
        assert known.of(file) == cache(tmp_path).of(file) == hashlib.sha256(data).hexdigest()
    assert len(hashed) == 4


def test_a_file_written_just_now_is_not_remembered(tmp_path: Path, hashed: list[str]) -> None:
    file = tmp_path / "a"
    file.write_bytes(b"abc")
    assert DigestCache(tmp_path, settled=60).of(file) == hash_file(file)
    os.utime(file, (1, 1))  # the time of the last change of any kind stays
    assert DigestCache(tmp_path, settled=60).of(file) == hash_file(file)
    assert hashed == []
    assert not (tmp_path / digests.NAME).exists()


def test_a_file_that_changes_under_the_reader_is_not_remembered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "a"
    file.write_bytes(b"abc")

    def meanwhile(file: Path) -> str:
        digest = hash_file(file)
        file.write_bytes(b"abcd")
        return digest

    monkeypatch.setattr(digests, "hash_file", meanwhile)
    cache(tmp_path).of(file)
    monkeypatch.undo()
    assert cache(tmp_path).of(file) == hashlib.sha256(b"abcd").hexdigest()


@pytest.mark.parametrize("text", [
    b"", b"\xff", b"[]", b"{}", b"[" * 99999, b'{"files": 3}', b'{"files": [{"path": "a"}]}',
])  # fmt: skip
def test_a_damaged_file_is_an_empty_one(tmp_path: Path, text: bytes, hashed: list[str]) -> None:
    file = tmp_path / "a"
    file.write_bytes(b"abc")
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache" / digests.NAME).write_bytes(text)
    assert [cache(tmp_path).of(file) for _ in range(2)] == [hashlib.sha256(b"abc").hexdigest()] * 2
    assert hashed == ["a"]


def test_a_file_cut_anywhere_costs_no_more_than_hashing(tmp_path: Path) -> None:
    file = tmp_path / "a"
    file.write_bytes(b"abc")
    wanted = cache(tmp_path).of(file)
    page = tmp_path / "cache" / digests.NAME
    whole = page.read_bytes()
    for length in range(0, len(whole), 5):
        page.write_bytes(whole[:length])
        assert cache(tmp_path).of(file) == wanted
        assert page.read_bytes() == whole


def test_what_is_no_digest_is_not_believed(tmp_path: Path) -> None:
    file = tmp_path / "a"
    file.write_bytes(b"abc")
    wanted = cache(tmp_path).of(file)
    page = tmp_path / "cache" / digests.NAME
    page.write_text(page.read_text().replace(wanted, "<script>"))
    assert cache(tmp_path).of(file) == wanted


def test_files_that_are_gone_are_forgotten(tmp_path: Path) -> None:
    for name in "abc":
        (tmp_path / name).write_text(name)
        cache(tmp_path).of(tmp_path / name)
    (tmp_path / "a").unlink()
    (tmp_path / "b").write_text("changed")
    (tmp_path / "d").touch()
    cache(tmp_path).of(tmp_path / "d")
    kept = json.loads((tmp_path / "cache" / digests.NAME).read_text())["files"]
    assert [Path(one["path"]).name for one in kept] == ["c", "d"]


def test_a_folder_that_cannot_be_written_costs_hashing_once(
    tmp_path: Path, hashed: list[str]
) -> None:
    (tmp_path / "cache").touch()
    file = tmp_path / "a"
    file.write_bytes(b"abc")
    known = cache(tmp_path)
    assert known.of(file) == known.of(file) == hash_file(file)
    assert hashed == ["a"]


def test_processes_share_one_file(tmp_path: Path) -> None:
    """Files are named by the first digits of their digest, so that each process can check."""
    for index in range(16):
        data = bytes([index])
        part = tmp_path / f"weights{index % 2}"
        part.mkdir(exist_ok=True)
        (part / hashlib.sha256(data).hexdigest()[:16]).write_bytes(data)
    command = [sys.executable, "-c", HAMMER, str(tmp_path)]
    running = [
        subprocess.Popen([*command, str(tmp_path / f"weights{index}")], stderr=subprocess.PIPE)
        for index in range(2)
    ]
    for one in running:
        _, errors = one.communicate()
        assert one.returncode == 0, errors.decode()
    files = [file for index in range(2) for file in (tmp_path / f"weights{index}").iterdir()]
    known = DigestCache(tmp_path, settled=0)
    assert all(known.of(file).startswith(file.name) for file in files)
    assert {file.name for file in tmp_path.iterdir()} == {"weights0", "weights1", digests.NAME}


def test_a_checkpoint_asks_it(tiny_model: Path, tmp_path: Path, hashed: list[str]) -> None:
    model = tmp_path / "model"
    shutil.copytree(tiny_model, model)
    plain = open_checkpoint(model).sha256()
    for _ in range(2):
        assert open_checkpoint(model).sha256(cache(tmp_path).of) == plain
    assert len(hashed) == 4


def test_a_drawing_of_the_doctor_hashes_no_weights(monkeypatch) -> None:
    def refuse(file: Path, *_: object) -> str:
        raise AssertionError(f"{file} was hashed")

    monkeypatch.setattr("sakuga.weights.sha256._sha256", refuse)
    monkeypatch.setattr("sakuga.weights.digests.hash_file", refuse)
    assert smoke(locate("chibi"), "cpu", "auto").colour == GREEN
