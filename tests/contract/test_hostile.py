"""No file can do anything but be refused: not run code, not write, not call home, not take long."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

import hostile

SECONDS = 1.0
PROGRAM = Path(hostile.__file__).with_name("watch_readers.py")


Results = Mapping[str, Sequence[tuple[str, str, float]]]


@dataclass(frozen=True)
class Watched:
    """What came of reading: (error, message, seconds) of each reader, by file; audit events.

    results: of those that must refuse. looked: of those that only look on.
    """

    results: Results
    looked: Results
    seen: Sequence[str]


Place = tuple[str, Path]  # what a path would pass for, file | model | adapter | opened, and it


def watch(
    folder: Path, paths: Mapping[str, Place], warm: Sequence[Place], provoke: str = ""
) -> Watched:
    """Read files with every reader, in a process of its own, after some that are in order."""
    order = {"paths": paths, "warm": warm, "provoke": provoke}
    said = subprocess.run(
        [sys.executable, PROGRAM],
        input=json.dumps(order, default=str),
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert said.returncode == 0, said.stderr
    return Watched(**json.loads(said.stdout))


@dataclass(frozen=True)
class Corpus:
    """All hostile files, and what came of reading them."""

    folder: Path
    built: Mapping[str, hostile.Built]
    watched: Watched


@pytest.fixture(scope="module")
def in_order(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path) -> Sequence[Place]:
    """One of each kind that is in order, so that all readers have done all they do."""
    folder = tmp_path_factory.mktemp("order")
    shutil.copytree(tiny_model, folder / "model")
    hostile.adapter(folder / "adapter")
    hostile.torch_zip(folder / "good.pt", hostile.state(hostile.tensor()))
    return [
        ("model", folder / "model"),
        ("adapter", folder / "adapter"),
        ("file", folder / "good.pt"),
        ("file", tiny_model / hostile.VAE),
    ]


@pytest.fixture(scope="module")
def corpus(
    tmp_path_factory: pytest.TempPathFactory, tiny_model: Path, in_order: Sequence[Place]
) -> Corpus:
    folder = tmp_path_factory.mktemp("hostile")
    (folder / "evil.py").write_text(hostile.RUN)
    built = hostile.build(folder, tiny_model)
    paths = {name: (each.kind, each.path) for name, each in built.items()}
    return Corpus(folder, built, watch(folder, paths, in_order))


def test_every_hostile_file_is_refused_by_every_reader(corpus: Corpus) -> None:
    assert len(corpus.watched.results) >= 25
    for name, readers in corpus.watched.results.items():
        assert all(error for error, _, _ in readers), (name, readers)


def test_a_refusal_says_what_was_found(corpus: Corpus) -> None:
    for name, readers in corpus.watched.results.items():
        says = corpus.built[name].says
        assert any(says in text for _, text, _ in readers), (name, says, readers)
        assert all(len(text) < 1500 for _, text, _ in readers), name


def test_a_refusal_takes_less_than_a_second(corpus: Corpus) -> None:
    for results in (corpus.watched.results, corpus.watched.looked):
        for name, readers in results.items():
            assert all(seconds < SECONDS for _, _, seconds in readers), (name, readers)


def test_no_hostile_file_runs_writes_imports_or_calls(corpus: Corpus) -> None:
    assert corpus.watched.seen == []
    assert not (corpus.folder / "ran").exists()


def test_the_watch_sees_what_it_watches_for(tmp_path: Path) -> None:
    provoke = (
        "import os, pickle, socket, wave\n"
        "pickle.loads(b'ccollections\\nCounter\\n.')\n"
        "socket.socket().close()\n"
        "open('x', 'w').close()\n"
        "os.remove('x')\n"
        "open('evil.py').close()\n"
    )
    (tmp_path / "evil.py").write_text("")
    seen = watch(tmp_path, {}, [], provoke).seen
    events = {line.split()[0] for line in seen}
    assert {"import", "pickle.find_class", "socket.__new__", "open", "os.remove"} <= events
    assert any(line.startswith("open") and "evil.py" in line for line in seen)


def test_code_beside_weights_is_named_and_never_read(
    tmp_path: Path, tiny_model: Path, in_order: Sequence[Place]
) -> None:
    model = Path(shutil.copytree(tiny_model, tmp_path / "model"))
    for place in (model, model / "text_encoder_2"):
        (place / "modeling_evil.py").write_text(hostile.RUN)
        (place / "__init__.py").write_text(hostile.RUN)
    hostile.edit(
        model / "text_encoder_2" / "config.json", auto_map={"AutoModel": "modeling_evil.Evil"}
    )
    said = watch(tmp_path, {"model": ("opened", model)}, in_order)
    assert said.seen == []
    assert [error for error, _, _ in said.looked["model"]] == ["", "", ""]
    assert not (tmp_path / "ran").exists()


def test_the_hub_s_own_links_are_followed(
    tmp_path: Path, tiny_model: Path, in_order: Sequence[Place]
) -> None:
    """A snapshot of its cache holds links to blobs of the same repository."""
    repo = tmp_path / "models--someone--something"
    snapshot, blobs = repo / "snapshots" / "abc", repo / "blobs"
    shutil.copytree(tiny_model, snapshot)
    blobs.mkdir()
    for number, file in enumerate(sorted(snapshot.rglob("*.*"))):
        file.rename(blobs / str(number))
        depth = len(file.relative_to(repo).parts) - 1
        file.symlink_to("../" * depth + f"blobs/{number}")
    said = watch(tmp_path, {"model": ("opened", snapshot)}, in_order)
    assert said.seen == []
    assert [error for error, _, _ in said.looked["model"]] == ["", "", ""]
