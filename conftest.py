"""What every test shares: its folder is its marker, `tests/gpu` asks for a card, length by wish."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

sys.path.insert(0, str(Path(__file__).parent / "tests"))  # for what the folders of tests share

from effort import examples

TESTS = Path(__file__).parent / "tests"

# Each xdist worker computes with one thread: more only take turns on the same cores.
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")


# `@settings(max_examples=...)` of a test goes by `examples`, too.
# How long examples take to make says how busy a machine is, and nothing of the package.
settings.register_profile(
    "sakuga",
    max_examples=examples(100),
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("sakuga")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark each test with the name of its folder; skip GPU tests where there is no GPU."""
    for item in items:
        folder = item.path.relative_to(TESTS).parts[0]
        item.add_marker(folder)
    on_gpu = [item for item in items if item.get_closest_marker("gpu")]
    if on_gpu and not _has_cuda():
        for item in on_gpu:
            item.add_marker(pytest.mark.skip(reason="needs a CUDA device"))


def _has_cuda() -> bool:
    import torch  # noqa: PLC0415  # only where a GPU test was collected

    return torch.cuda.is_available()
