"""No file can do anything but be refused: not run code, not write, not call home, not take long."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

import hostile

SECONDS = 1.0


@dataclass(frozen=True)
class Corpus:
    """What came of all hostile files: (error, message, seconds) of each reader; audit events."""

    folder: Path
    built: Mapping[str, hostile.Built]
    results: Mapping[str, Sequence[tuple[str, str, float]]]
    seen: Sequence[str]


# Reads every file of a list with every reader, and tells what Python's audit hooks told.
# They see what happens in C as well; a hook cannot be taken off.
WATCH = """
import json, os, sys, time
from pathlib import Path

from sakuga.errors import SakugaError
from sakuga.weights.archive import open_archive
from sakuga.weights.checkpoint import code_in, open_checkpoint, open_component
from sakuga.weights.store import Store

HARMLESS = {"os.listdir", "os.scandir", "mmap.__new__", "sys._getframe", "object.__getattr__"}
WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
seen, watching = [], False


def hook(event, arguments):
    if not watching or event in HARMLESS:
        return
    if event == "open":
        path, mode, flags = arguments
        if not flags & WRITES and not str(path).endswith((".py", ".so")):
            return
    seen.append(f"{event} {arguments!r}"[:200])


def read_model(path):
    checkpoint = open_checkpoint(path)
    checkpoint.tokenizer()
    checkpoint.tokenizer("tokenizer_2")
    checkpoint.vocabulary()
    return code_in(path)


def read_file(reader):
    def read(path):
        store = reader(path)
        for key in store:
            store.view(key)
    return read


def refused(reader, path):
    start = time.process_time()
    try:
        reader(path)
    except SakugaError as error:
        what = type(error).__name__
        text = str(error)
    else:
        what, text = "", ""
    return what, text, time.process_time() - start


FILE_READERS = [read_file(Store.open), read_file(open_archive), lambda p: open_component(p, "vae")]
order = json.load(sys.stdin)
for path in order["warm"]:  # what is imported lazily is imported now
    path = Path(path)
    for reader in [read_model] if path.is_dir() else FILE_READERS:
        refused(reader, path)
sys.addaudithook(hook)
results = {}
watching = True
for name, path in order["paths"].items():
    path = Path(path)
    readers = [read_model] if path.is_dir() else FILE_READERS
    results[name] = [refused(reader, path) for reader in readers]
if order["provoke"]:
    exec(order["provoke"])
watching = False
print(json.dumps({"results": results, "seen": seen}))
"""


def watch(folder: Path, paths: Mapping[str, Path], warm: list[Path], provoke: str = "") -> Any:
    """What came of reading these files: (error, message, seconds) of each reader, and events."""
    order = {"paths": paths, "warm": warm, "provoke": provoke}
    said = subprocess.run(
        [sys.executable, "-c", WATCH],
        input=json.dumps(order, default=str),
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert said.returncode == 0, said.stderr
    return json.loads(said.stdout)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path) -> Corpus:
    folder = tmp_path_factory.mktemp("hostile")
    (folder / "evil.py").write_text(hostile.RUN)
    built = hostile.build(folder, tiny_model)
    good = folder / "good.pt"
    hostile.torch_zip(good, hostile.state(hostile.tensor()))
    paths = {name: each.path for name, each in built.items()}
    said = watch(folder, paths, [tiny_model, good, tiny_model / hostile.VAE])
    return Corpus(folder, built, said["results"], said["seen"])


def test_every_hostile_file_is_refused_by_every_reader(corpus: Corpus) -> None:
    assert len(corpus.results) >= 25
    for name, readers in corpus.results.items():
        assert all(error for error, _, _ in readers), name


def test_a_refusal_says_what_was_found(corpus: Corpus) -> None:
    for name, readers in corpus.results.items():
        says = corpus.built[name].says
        assert any(says in text for _, text, _ in readers), (name, says, readers)
        assert all(len(text) < 1500 for _, text, _ in readers), name


def test_a_refusal_takes_less_than_a_second(corpus: Corpus) -> None:
    for name, readers in corpus.results.items():
        assert all(seconds < SECONDS for _, _, seconds in readers), (name, readers)


def test_no_hostile_file_runs_writes_imports_or_calls(corpus: Corpus) -> None:
    assert corpus.seen == []
    assert not (corpus.folder / "ran").exists()


def test_the_watch_sees_what_it_watches_for(tmp_path: Path) -> None:
    provoke = (
        "import pickle, socket, collections\n"
        "pickle.loads(b'ccollections\\nCounter\\n.')\n"
        "socket.socket().close()\n"
        "open('x', 'w').close()\n"
        "os.remove('x')\n"
        "open('evil.py').close()\n"
    )
    (tmp_path / "evil.py").write_text("")
    seen = watch(tmp_path, {}, [], provoke)["seen"]
    events = {line.split()[0] for line in seen}
    assert {"import", "pickle.find_class", "socket.__new__", "open", "os.remove"} <= events
    assert any(line.startswith("open") and "evil.py" in line for line in seen)


def test_code_beside_weights_is_named_and_never_read(tmp_path: Path, tiny_model: Path) -> None:
    model = Path(shutil.copytree(tiny_model, tmp_path / "model"))
    for place in (model, model / "text_encoder_2"):
        (place / "modeling_evil.py").write_text(hostile.RUN)
        (place / "__init__.py").write_text(hostile.RUN)
    hostile.edit(
        model / "text_encoder_2" / "config.json", auto_map={"AutoModel": "modeling_evil.Evil"}
    )
    said = watch(tmp_path, {"model": model}, [tiny_model])
    assert said["seen"] == []
    assert [result[0] for result in said["results"]["model"]] == [""]
    assert not (tmp_path / "ran").exists()


def test_the_hub_s_own_links_are_followed(tmp_path: Path, tiny_model: Path) -> None:
    """A snapshot of its cache holds links to blobs of the same repository."""
    repo = tmp_path / "models--someone--something"
    snapshot, blobs = repo / "snapshots" / "abc", repo / "blobs"
    shutil.copytree(tiny_model, snapshot)
    blobs.mkdir()
    for number, file in enumerate(sorted(snapshot.rglob("*.*"))):
        file.rename(blobs / str(number))
        depth = len(file.relative_to(repo).parts) - 1
        file.symlink_to("../" * depth + f"blobs/{number}")
    said = watch(tmp_path, {"model": snapshot}, [tiny_model])
    assert said["seen"] == []
    assert [result[0] for result in said["results"]["model"]] == [""]
