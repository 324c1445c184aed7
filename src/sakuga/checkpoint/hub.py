"""Models named as org/name on a Hugging Face hub: fetched once, pinned, then read from the cache.

Weights, their JSON files and tokenizers are asked for, and nothing that could run. A name
without a revision means the commit that its first download found: later drawings use that
one, without a network, until another revision is named.
"""

from __future__ import annotations

import contextlib
import re
from dataclasses import dataclass
from pathlib import Path

from sakuga.errors import ModelNotFound, SakugaError
from sakuga.weights.shards import FROM_TORCH
from sakuga.weights.untrusted import reading

PATTERNS = ("*.safetensors", "*.json", "*.model")
NAME = re.compile(r"([A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*)(?:@((?:(?!\.\.)[\w./-])+))?", re.ASCII)
FILES = (".safetensors", ".gguf", *FROM_TORCH)
COMMIT = re.compile("[0-9a-f]{40}")
BLOB = re.compile("[0-9a-f]{40}|[0-9a-f]{64}")
TOKEN = "set HF_TOKEN to a token that may read it."
RESUME = "run it again: files that came are kept."


@dataclass(frozen=True, slots=True)
class Name:
    """A repository, and the branch, tag or commit that is meant; None for the pinned one."""

    repository: str
    revision: str | None = None

    def __str__(self) -> str:
        return f"{self.repository}@{self.revision}" if self.revision else self.repository


@dataclass(frozen=True, slots=True)
class Hub:
    """Where repositories come from, and where they are kept.

    endpoint, token, cache: None stands for what the huggingface_hub library finds by itself.
    offline: no network is touched. watched: someone sees standard error, so bars are shown.
    """

    endpoint: str | None = None
    token: str | None = None
    cache: Path | None = None
    offline: bool = False
    watched: bool = False


def parse_name(model: str) -> Name | None:
    """What org/name or org/name@revision names.

    None for any other text, for what is there as a path, and for a file of weights by its name.
    """
    found = NAME.fullmatch(model)
    if found is None:
        return None
    with reading(Path(model)):
        if Path(model).exists() or Path(model).suffix in FILES:
            return None
    return Name(found[1], found[2])


def fetch(name: Name, hub: Hub) -> Path:
    """The folder that holds a repository at one commit, downloaded where it is not there yet.

    The folder is called after its commit. Files that came before a download broke are kept.
    Raises ModelNotFound with what to do: check the name, accept a licence, give a token, go
    online; SakugaError where the disk cannot take it.
    """
    from huggingface_hub.errors import LocalEntryNotFoundError

    if not hub.offline and not _is_whole(name, hub):
        return _download(name, hub)
    try:
        return _snapshot(name, hub, offline=True)
    except LocalEntryNotFoundError:
        fix = "Go online (HF_HUB_OFFLINE=0), or pass the folder of a model."
        raise _absent(name, "offline, and it is not whole in the cache", fix) from None


def stored_digest(file: Path) -> str | None:
    """The digest that the cache of the hub names a file by; None for a file that is elsewhere.

    64 hex digits are the SHA-256 of the file, 40 are git's SHA-1 of it as a blob.
    Source: https://huggingface.co/docs/huggingface_hub/guides/manage-cache
    """
    if not file.is_symlink():
        return None
    name = file.readlink().name
    return name if BLOB.fullmatch(name) else None


def _is_whole(name: Name, hub: Hub) -> bool:
    """Whether all that a settled name means is in the cache, by the list of its files there."""
    from huggingface_hub import get_cached_repo_tree
    from huggingface_hub.errors import CachedRepoTreeNotFoundError, LocalEntryNotFoundError

    if name.revision is not None and not COMMIT.fullmatch(name.revision):
        return False  # a branch or tag may point elsewhere by now
    try:
        get_cached_repo_tree(name.repository, revision=name.revision, cache_dir=hub.cache)
        _snapshot(name, hub, offline=True)
    except (CachedRepoTreeNotFoundError, LocalEntryNotFoundError, ValueError):
        return False
    return True


def _snapshot(name: Name, hub: Hub, *, offline: bool) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.utils.tqdm import disable_progress_bars

    with contextlib.nullcontext() if hub.watched else disable_progress_bars():
        folder = snapshot_download(
            name.repository,
            revision=name.revision,
            cache_dir=hub.cache,
            endpoint=hub.endpoint,
            token=hub.token,
            local_files_only=offline,
            allow_patterns=list(PATTERNS),
        )
    return Path(folder)


def _download(name: Name, hub: Hub) -> Path:
    """Ask the hub; every way in which that fails becomes an error that says what to do."""
    from huggingface_hub.constants import ENDPOINT
    from huggingface_hub.errors import LocalEntryNotFoundError

    try:
        folder = _snapshot(name, hub, offline=False)
    except Exception as error:
        # "Not in the cache either" is what the library makes of a hub that gave no files.
        absent = isinstance(error, LocalEntryNotFoundError)
        reason = error.__cause__ if absent and error.__cause__ else error
        raise _explained(reason, name, hub.endpoint or ENDPOINT) from None
    if not any(folder.glob("**/*.safetensors")):
        raise _absent(name, "it holds no safetensors", "Name a repository that does.")
    return folder


def _explained(error: BaseException, name: Name, place: str) -> SakugaError:
    """What went wrong at `place`, the address of the hub, and what to do about it."""
    from huggingface_hub import errors

    match error:
        case errors.GatedRepoError():
            why, fix = "it is gated", f"Accept its licence at {place}/{name.repository} and {TOKEN}"
        case errors.RepositoryNotFoundError():
            why = f"{place} shows you no such repository"
            fix = f"Check the name; for a private one {TOKEN}"
        case errors.RevisionNotFoundError():
            why, fix = "it has no such revision", "Check what follows the @."
        case errors.HfHubHTTPError():
            status = error.response.status_code
            why = f"{place} answered {status}"
            fix = "Check HF_TOKEN." if status in (401, 403) else "Try again later."
        case ValueError():
            why, fix = str(error).removesuffix("."), "Check the name."
        case OSError() if not isinstance(error, errors.LocalEntryNotFoundError | ConnectionError):
            return SakugaError(
                "a download must arrive whole and fit the disk",
                f"{str(error).splitlines()[0]} for {str(name)!r}",
                f"Make room in the cache (HF_HOME) and {RESUME}",
            )
        case _:  # of the HTTP library, which is another one from version to version
            why = f"{place} does not answer ({type(error).__name__})"
            fix = f"Check the network and {RESUME}"
    return _absent(name, why, fix)


def _absent(name: Name, why: str, fix: str) -> ModelNotFound:
    rule = "a model of the hub must be fetched, or in the cache"
    return ModelNotFound(rule, f"{str(name)!r}: {why}", fix)
