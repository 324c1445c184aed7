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
from sakuga.checkpoint.folder import code_in

SECONDS = 1.0
PROGRAM = Path(hostile.__file__).with_name("watch_readers.py")


# What the watch has to see, so that its seeing nothing else means something.
PROVOKE = """
import os, pickle, socket, wave
pickle.loads(b"ccollections\\nCounter\\n.")
socket.socket().close()
open("x", "w").close()
os.remove("x")
open("evil.py").close()
"""

Place = tuple[str, Path]  # what a path would pass for, file | model | adapter | opened, and it
Results = Mapping[str, Sequence[tuple[str, str, float]]]


@dataclass(frozen=True)
class Watched:
    """What came of reading: (error, message, seconds) of each reader, by file; audit events.

    results: of those that must refuse. looked: of those that only look on. provoked: the events
    of PROVOKE.
    """

    results: Results
    looked: Results
    seen: Sequence[str]
    provoked: Sequence[str]


def watch(folder: Path, paths: Mapping[str, Place], warm: Sequence[Place]) -> Watched:
    """Read files with every reader, in a process of its own, after some that are in order."""
    order = {"paths": paths, "warm": warm, "provoke": PROVOKE}
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
    """All hostile files, two models in order that look odd, and what came of reading them."""

    folder: Path
    built: Mapping[str, hostile.Built]
    coded: Path
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
    coded = with_code(tiny_model, folder / "coded")
    paths = {name: (each.kind, each.path) for name, each in built.items()}
    paths["code"] = "opened", coded
    paths["hub"] = "opened", in_a_hub(tiny_model, folder / "models--someone--something")
    return Corpus(folder, built, coded, watch(folder, paths, in_order))


def with_code(model: Path, place: Path) -> Path:
    """A model as the release is: code lies in its folders, and a config asks for some."""
    shutil.copytree(model, place)
    for folder in (place, place / "text_encoder_2"):
        (folder / "modeling_evil.py").write_text(hostile.RUN)
        (folder / "__init__.py").write_text(hostile.RUN)
    asked = {"AutoModel": "modeling_evil.Evil"}
    hostile.edit(place / "text_encoder_2" / "config.json", auto_map=asked)
    return place


def in_a_hub(model: Path, repo: Path) -> Path:
    """A model as the hub's cache keeps it: links to blobs of the same repository."""
    snapshot, blobs = repo / "snapshots" / "abc", repo / "blobs"
    shutil.copytree(model, snapshot)
    blobs.mkdir()
    for number, file in enumerate(sorted(snapshot.rglob("*.*"))):
        file.rename(blobs / str(number))
        depth = len(file.relative_to(repo).parts) - 1
        file.symlink_to("../" * depth + f"blobs/{number}")
    return snapshot


def test_every_hostile_file_is_refused_by_every_reader(corpus: Corpus) -> None:
    assert len(corpus.built) >= 25
    for name in corpus.built:
        readers = corpus.watched.results[name]
        assert readers, name
        assert all(error for error, _, _ in readers), (name, readers)


def test_a_refusal_says_what_was_found(corpus: Corpus) -> None:
    for name, each in corpus.built.items():
        texts = [text for _, text, _ in corpus.watched.results[name]]
        assert any(each.says in text for text in texts), (name, each.says, texts)
        assert all(len(text) < 1500 for text in texts), name


def test_a_refusal_takes_less_than_a_second(corpus: Corpus) -> None:
    for results in (corpus.watched.results, corpus.watched.looked):
        for name, readers in results.items():
            assert all(seconds < SECONDS for _, _, seconds in readers), (name, readers)


def test_no_file_runs_writes_imports_or_calls(corpus: Corpus) -> None:
    assert corpus.watched.seen == []
    assert not (corpus.folder / "ran").exists()


def test_the_watch_sees_what_it_watches_for(corpus: Corpus) -> None:
    seen = corpus.watched.provoked
    events = {line.split()[0] for line in seen}
    assert {"import", "pickle.find_class", "socket.__new__", "open", "os.remove"} <= events
    assert any(line.startswith("open") and "evil.py" in line for line in seen)


@pytest.mark.parametrize("what", ["code", "hub"])
def test_what_only_looks_odd_is_opened(corpus: Corpus, what: str) -> None:
    assert [error for error, _, _ in corpus.watched.looked[what]] == ["", "", ""]


def test_code_beside_weights_is_named(corpus: Corpus) -> None:
    assert code_in(corpus.coded) == (
        "__init__.py",
        "modeling_evil.py",
        "text_encoder_2/__init__.py",
        "text_encoder_2/modeling_evil.py",
        "auto_map in text_encoder_2/config.json",
    )
    assert code_in(corpus.coded / "vae") == code_in(corpus.coded / "modeling_evil.py") == ()


def test_code_is_not_looked_for_outside_the_folder(tmp_path: Path) -> None:
    (tmp_path / "evil.py").write_text(hostile.RUN)
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "more").symlink_to(tmp_path)
    assert code_in(tmp_path / "model") == ()
