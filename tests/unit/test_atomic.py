"""A file is whole or as it was, is never overwritten unasked, and is for whom it was made."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from sakuga.errors import OutputExists
from sakuga.files.atomic import build_atomically, refuse_existing, write_atomically, write_private


def test_a_file_is_overwritten_only_when_asked(tmp_path) -> None:
    path = tmp_path / "a"
    write_atomically(path, b"one", replace=False)
    with pytest.raises(OutputExists):
        write_atomically(path, b"two", replace=False)
    assert path.read_bytes() == b"one"
    write_atomically(path, b"two", replace=True)
    assert path.read_bytes() == b"two"
    assert os.listdir(tmp_path) == ["a"]


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"old")

    def full(handle: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        write_atomically(path, b"new", replace=True)
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["a"]


def test_a_file_is_readable_like_any_other_file(tmp_path) -> None:
    old = os.umask(0o022)
    try:
        write_atomically(tmp_path / "a", b"x", replace=False)
    finally:
        os.umask(old)
    assert (tmp_path / "a").stat().st_mode & 0o777 == 0o644


def test_what_is_built_replaces_the_old_file_and_everyone_may_read_it(tmp_path) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"old")

    def build(draft: Path) -> None:
        assert draft.parent == tmp_path
        assert not draft.exists()
        draft.write_bytes(b"new")
        draft.chmod(0o600)

    build_atomically(path, build)
    assert path.read_bytes() == b"new"
    assert path.stat().st_mode & 0o777 == 0o644
    assert os.listdir(tmp_path) == ["a"]


def test_what_is_not_built_to_the_end_leaves_the_old_file_and_nothing_else(tmp_path) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"old")

    def build(draft: Path) -> None:
        draft.write_bytes(b"half")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        build_atomically(path, build)
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["a"]


def test_a_name_as_long_as_the_system_allows_can_be_written(tmp_path) -> None:
    path = tmp_path / ("n" * 255)
    write_atomically(path, b"one", replace=False)
    assert path.read_bytes() == b"one"


def test_a_link_is_there_even_where_it_leads_nowhere(tmp_path) -> None:
    (tmp_path / "a").symlink_to(tmp_path / "nowhere")
    with pytest.raises(OutputExists):
        refuse_existing(tmp_path / "a")
    refuse_existing(tmp_path / "a", replace=True)
    refuse_existing(tmp_path / "b")


def test_a_folder_is_refused_even_where_files_may_be_replaced(tmp_path) -> None:
    with pytest.raises(OutputExists, match="one file is written"):
        refuse_existing(tmp_path, replace=True)


def test_without_hard_links_a_file_is_not_overwritten_either(tmp_path, monkeypatch) -> None:
    def unsupported(source: Path, target: Path) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", unsupported)
    write_atomically(tmp_path / "a", b"one", replace=False)
    with pytest.raises(OutputExists):
        write_atomically(tmp_path / "a", b"two", replace=False)
    assert (tmp_path / "a").read_bytes() == b"one"
    assert os.listdir(tmp_path) == ["a"]


def test_what_cannot_be_written_leaves_what_was_there(tmp_path: Path) -> None:
    write_private(tmp_path / "a", b"old")
    (tmp_path / "b").mkdir()
    with pytest.raises(OSError, match="directory"):
        write_private(tmp_path / "b", b"new")
    with pytest.raises(FileExistsError):
        write_private(tmp_path / "a" / "c", b"new")
    assert {file.name for file in tmp_path.iterdir()} == {"a", "b"}
    assert (tmp_path / "a").read_bytes() == b"old"


@pytest.mark.skipif(os.name == "nt", reason="Windows has no modes")
def test_what_people_drew_is_for_themselves_to_see(tmp_path: Path) -> None:
    write_private(tmp_path / "made" / "a", b"")
    assert (tmp_path / "made").stat().st_mode & 0o077 == 0
    assert (tmp_path / "made" / "a").stat().st_mode & 0o077 == 0
