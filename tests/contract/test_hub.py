"""Networks fetched from a hub: a real server on the loopback, and the library that asks it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from hubstand import Stand, standing
from huggingface_hub import constants
from PIL import Image

from engines import open_engine
from sakuga.api.events import Finished
from sakuga.api.request import Request
from sakuga.checkpoint.folder import open_checkpoint
from sakuga.checkpoint.hub import Hub, Name, fetch, parse_name, stored_digest
from sakuga.commands.cli import main
from sakuga.commands.doctor.examine import Visit, examine
from sakuga.errors import ModelNotFound, SakugaError
from sakuga.weights.sha256 import file_sha256

TINY = Name("lab/tiny")
CODE = ("transformer/model.py", "text_encoder/pytorch_model.bin", "dit.pt", "README.md")


@pytest.fixture(scope="module")
def repository(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny model as people publish one: with code, pickles and a page beside it."""
    folder = tmp_path_factory.mktemp("hub") / "tiny"
    shutil.copytree(tiny_model, folder)
    for name in CODE:
        (folder / name).write_text("raise SystemExit")
    return folder


@pytest.fixture
def stand(repository: Path) -> Iterator[Stand]:
    with standing(Stand({"lab/tiny": repository})) as running:
        yield running


@pytest.fixture
def hub(stand: Stand, tmp_path: Path) -> Hub:
    return Hub(stand.endpoint, cache=tmp_path / "cache")


def picture(model: Path) -> bytes:
    engine = open_engine(model)
    *_, last = engine.generate(Request("blue_hair", seed=1, steps=1, width=32, height=32))
    assert isinstance(last, Finished)
    return bytes(last.result.picture.rgb)


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("lab/tiny", TINY),
        ("lab/tiny@main", Name("lab/tiny", "main")),
        ("a-b/c.d_e@refs/pr/4", Name("a-b/c.d_e", "refs/pr/4")),
        ("chibi", None),
        ("newbie-3.5b", None),
        ("./lab/tiny", None),
        ("../tiny", None),
        ("/lab/tiny", None),
        ("a/b/c", None),
        ("lab/tiny@", None),
        ("lab/tiny@../../refs", None),
        ("", None),
    ],
)
def test_a_name_has_one_slash_and_perhaps_a_revision(text: str, name: Name | None) -> None:
    assert parse_name(text) == name
    assert name is None or str(name) == text


def test_a_folder_is_no_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "lab" / "tiny").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    assert parse_name("lab/tiny") is None


@pytest.mark.parametrize("there", [True, False])
@pytest.mark.parametrize("name", ["lab/dit.safetensors", "lab/q4.gguf", "lab/dit.pt"])
def test_a_file_of_weights_is_no_name(tmp_path: Path, monkeypatch, name: str, there: bool) -> None:
    (tmp_path / "lab").mkdir()
    if there:
        (tmp_path / name).touch()
    monkeypatch.chdir(tmp_path)
    assert parse_name(name) is None


def test_what_was_fetched_draws_as_the_folder_does(stand, hub, repository, tiny_model) -> None:
    folder = fetch(TINY, hub)
    assert folder.name == stand.commit
    files = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    there = {p.relative_to(repository).as_posix() for p in repository.rglob("*") if p.is_file()}
    assert files == there - set(CODE)
    assert sorted(stand.sent()) == sorted(files)
    assert picture(folder) == picture(tiny_model)


def test_a_model_without_a_name_is_called_as_on_the_hub(stand, hub, repository, tmp_path) -> None:
    bare = Path(shutil.copytree(repository, tmp_path / "bare"))
    (bare / "model_index.json").unlink()
    stand.repositories["lab-1/bare.v2"] = bare
    assert open_checkpoint(fetch(Name("lab-1/bare.v2"), hub)).spec.name == "lab-1/bare.v2"


def test_a_name_stays_with_the_commit_that_came_first(stand, hub) -> None:
    first = fetch(TINY, hub)
    asked = len(stand.asked)
    stand.commit = "b" * 40
    assert fetch(TINY, hub) == first
    assert fetch(Name("lab/tiny", "a" * 40), hub) == first
    assert len(stand.asked) == asked  # without a word to the hub
    assert fetch(Name("lab/tiny", "main"), hub).name == stand.commit


def test_a_commit_is_what_is_fetched(stand, hub) -> None:
    stand.branches = ()
    assert fetch(Name("lab/tiny", stand.commit), hub).name == stand.commit


def test_a_broken_download_goes_on_where_it_stopped(stand, hub, repository, monkeypatch) -> None:
    monkeypatch.setattr(constants, "DOWNLOAD_CHUNK_SIZE", 1 << 16)  # what is written at a time
    big = "transformer/diffusion_pytorch_model.safetensors"
    stand.cut = {big}
    folder = fetch(TINY, hub)
    assert file_sha256(folder / big) == file_sha256(repository / big)
    ranges = [line for line in stand.asked if "bytes=" in line]
    assert len(ranges) == 1
    assert big in ranges[0]


def test_what_others_left_in_the_cache_is_completed(stand, hub) -> None:
    folder = fetch(TINY, hub)
    (folder / "vae" / "config.json").unlink()
    with pytest.raises(ModelNotFound, match="not whole in the cache"):
        fetch(TINY, replace(hub, offline=True))
    before = len(stand.sent())
    assert fetch(TINY, hub) == folder
    assert (folder / "vae" / "config.json").is_file()
    assert len(stand.sent()) - before <= 1


def test_a_snapshot_whose_list_is_missing_is_not_trusted(stand, hub) -> None:
    folder = fetch(TINY, hub)
    shutil.rmtree(folder.parent.parent / "trees")
    shutil.rmtree(folder / "vae")
    assert (fetch(TINY, hub) / "vae" / "config.json").is_file()


def test_offline_the_cache_is_enough(stand, hub) -> None:
    away = replace(hub, offline=True)
    with pytest.raises(ModelNotFound, match=r"offline.*Go online"):
        fetch(TINY, away)
    assert stand.asked == []
    folder = fetch(TINY, hub)
    asked = len(stand.asked)
    assert fetch(TINY, away) == fetch(Name("lab/tiny", "main"), away) == folder
    assert len(stand.asked) == asked


def test_without_a_network_the_cache_is_enough(hub, tmp_path) -> None:
    folder = fetch(TINY, hub)
    nowhere = replace(hub, endpoint="http://127.0.0.1:9")
    assert fetch(Name("lab/tiny", "main"), nowhere) == folder
    with pytest.raises(ModelNotFound, match=r"does not answer \(ConnectError\).*network"):
        fetch(TINY, replace(nowhere, cache=tmp_path / "empty"))


def test_a_gated_model_says_where_its_licence_is(stand, hub, tiny_model) -> None:
    stand.gated = frozenset({"lab/tiny"})
    with pytest.raises(ModelNotFound, match=rf"gated.*{stand.endpoint}/lab/tiny.*HF_TOKEN"):
        fetch(TINY, hub)
    assert fetch(TINY, replace(hub, token=stand.token)).is_dir()


@pytest.mark.parametrize("token", [None, "hf_bad", "hf_good"])
def test_a_name_nobody_knows_is_checked_first(hub, token) -> None:
    with pytest.raises(ModelNotFound, match=r"no such repository.*Check the name"):
        fetch(Name("lab/tyni"), replace(hub, token=token))


def test_a_private_model_needs_a_token(stand, hub) -> None:
    stand.secret = frozenset({"lab/tiny"})
    with pytest.raises(ModelNotFound, match="HF_TOKEN"):
        fetch(TINY, hub)
    assert fetch(TINY, replace(hub, token=stand.token)).is_dir()


@pytest.mark.parametrize(
    ("status", "says"), [(403, "answered 403.*HF_TOKEN"), (500, "answered 500.*later")]
)
def test_what_the_hub_answers_is_passed_on(stand, hub, status, says) -> None:
    stand.status = status
    with pytest.raises(ModelNotFound, match=says):
        fetch(TINY, hub)


def test_a_revision_that_is_none(hub) -> None:
    with pytest.raises(ModelNotFound, match=r"lab/tiny@v9.*no such revision.*follows the @"):
        fetch(Name("lab/tiny", "v9"), hub)


@pytest.mark.parametrize("name", ["lab/a--b", "lab/a..b", "lab/" + "a" * 200, "lab/tiny."])
def test_a_name_that_cannot_be_is_refused(hub, name) -> None:
    with pytest.raises(ModelNotFound, match="Check the name"):
        fetch(Name(name), hub)


@pytest.mark.parametrize("lie", ["../lie.json", "/lie.json", "a/../../lie.json", "lie\0.json"])
def test_a_hub_that_lists_files_elsewhere_writes_none(stand, hub, tmp_path, lie) -> None:
    stand.lies = (lie,)
    with pytest.raises(ModelNotFound, match="lab/tiny"):
        fetch(TINY, hub)
    assert list(tmp_path.rglob("*lie*")) == []
    assert [path for path in tmp_path.iterdir() if path != hub.cache] == []


def test_a_repository_without_weights(stand, hub, tmp_path) -> None:
    (tmp_path / "words").mkdir()
    (tmp_path / "words" / "config.json").write_text("{}")
    stand.repositories["lab/words"] = tmp_path / "words"
    with pytest.raises(ModelNotFound, match="holds no safetensors"):
        fetch(Name("lab/words"), hub)


def test_a_cache_that_cannot_be_written_says_so(hub, tmp_path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(SakugaError, match="fit the disk"):
        fetch(TINY, replace(hub, cache=tmp_path / "file"))


def test_the_cache_knows_what_a_file_should_hash_to(hub, tiny_model) -> None:
    folder = fetch(TINY, hub)
    weights = "vae/diffusion_pytorch_model.safetensors"
    assert stored_digest(folder / weights) == file_sha256(tiny_model / weights)
    assert len(stored_digest(folder / "vae" / "config.json") or "") == 40
    assert stored_digest(tiny_model / weights) is None


def test_weights_shared_between_repositories_are_followed(hub) -> None:
    """The library links a blob on to one store for the whole cache."""
    folder = fetch(TINY, hub)
    file = folder / "vae" / "diffusion_pytorch_model.safetensors"
    blob = file.parent / file.readlink()
    shared = Path(hub.cache) / "blobs" / "ab" / ("ab" * 32)
    shared.parent.mkdir(parents=True)
    blob.resolve().rename(shared)
    (folder.parent.parent / "blobs" / blob.name).symlink_to(shared)
    assert open_checkpoint(folder).vae.store.files == (file,)


def test_the_doctor_holds_a_download_against_its_digests(hub) -> None:
    folder = fetch(TINY, hub)

    def hashes() -> list[str]:
        visit = Visit(str(folder), device="cpu", hash=True, draw=False)
        return [one.colour for one in examine(visit) if one.check == "hashes"]

    assert hashes() == ["green"]
    for name in ("model_index.json", "vae/diffusion_pytorch_model.safetensors"):
        data = bytearray((folder / name).read_bytes())
        data[-2] ^= 1
        (folder / name).resolve().write_bytes(data)
    assert hashes() == ["red", "red", "green"]


def run(stand: Stand, cache: Path, *arguments: str, **more: str) -> tuple[int, str, str]:
    """Run `sakuga ARGUMENTS` with the environment that people point at a hub with."""
    clean = {key: value for key, value in os.environ.items() if not key.startswith("HF_")}
    env = {**clean, "HF_ENDPOINT": stand.endpoint, "HF_HUB_CACHE": str(cache), **more}
    command = [sys.executable, "-m", "sakuga", *arguments]
    said = subprocess.run(command, capture_output=True, text=True, check=False, env=env)
    return said.returncode, said.stdout, said.stderr


def test_fetch_prints_the_folder_and_the_commit(stand, tmp_path) -> None:
    folder = tmp_path / "models--lab--tiny" / "snapshots" / stand.commit
    pinned = f"lab/tiny@{stand.commit}\n"
    assert run(stand, tmp_path, "fetch", "lab/tiny") == (0, f"{folder}\n", pinned)
    asked = len(stand.asked)
    away = run(stand, tmp_path, "fetch", "lab/tiny@main", HF_HUB_OFFLINE="1")
    assert away == (0, f"{folder}\n", pinned)
    assert len(stand.asked) == asked


def test_fetch_says_what_is_wrong_with_a_name(stand, tmp_path) -> None:
    code, out, err = run(stand, tmp_path, "fetch", "lab/tyni")
    assert (code, out) == (2, "")
    assert "Check the name" in err
    assert "Traceback" not in err


def test_the_token_of_the_environment_is_used(stand, tmp_path) -> None:
    stand.gated = frozenset({"lab/tiny"})
    assert run(stand, tmp_path, "fetch", "lab/tiny")[0] == 2
    assert run(stand, tmp_path, "fetch", "lab/tiny", HF_TOKEN=stand.token)[0] == 0


@pytest.mark.parametrize("command", [["lint", "-"], ["plan"]], ids=lambda command: command[0])
def test_what_needs_no_weights_asks_no_hub(stand, tmp_path, command) -> None:
    code, _, err = run(stand, tmp_path, *command, "--model", "lab/tiny")
    assert code == 2
    assert "sakuga fetch org/name" in err
    assert stand.asked == []


def test_fetch_gives_a_folder_as_it_is(stand, tmp_path, tiny_model) -> None:
    assert run(stand, tmp_path, "fetch", str(tiny_model)) == (0, f"{tiny_model}\n", "")


@pytest.fixture
def draw(stand, tmp_path, monkeypatch, capsys) -> Callable[..., tuple[bytes, str]]:
    """Draw a step in this process, which has torch already: (pixels, standard error)."""
    monkeypatch.setenv("HF_ENDPOINT", stand.endpoint)
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "cache"))
    out = tmp_path / "a.png"
    words = ["sakuga", "draw", "blue_hair", "--seed", "1", "--steps", "1", "--out", str(out)]
    words += ["--device", "cpu", "--no-cache", "--force"]

    def drawn(*source: str) -> tuple[bytes, str]:
        monkeypatch.setattr(sys, "argv", [*words, *source])
        with pytest.raises(SystemExit) as end:
            main()
        assert not end.value.code
        with Image.open(out) as picture:
            return picture.tobytes(), capsys.readouterr().err

    return drawn


def test_a_model_of_a_hub_is_drawn(draw, stand, tiny_model) -> None:
    here, _ = draw("--model", str(tiny_model))
    there, said = draw("--model", "lab/tiny")
    assert there == here
    assert f"lab/tiny@{stand.commit}" in said


def test_a_part_may_come_from_a_hub(draw, stand, tiny_model, other_model) -> None:
    stand.repositories["lab/vae"] = other_model / "vae"
    here, _ = draw("--model", str(tiny_model), "--vae", str(other_model / "vae"))
    there, said = draw("--model", str(tiny_model), "--vae", "lab/vae@main")
    assert there == here
    assert f"lab/vae@{stand.commit}" in said
