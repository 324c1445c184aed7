"""What the original does not have, and so cannot be held against: recorded once, kept since."""

import json
from pathlib import Path

import pytest
import torch

from sakuga.sample.solvers import grid, solve

RECORD = json.loads((Path(__file__).parent / "solvers.json").read_text())


def velocity(x, t):
    return torch.stack((x[1] - t * x[0], torch.cos(x[0]) - x[1] * t * t))


@pytest.mark.parametrize(
    "entry", RECORD, ids=lambda entry: f"{entry['solver']}-{entry['schedule']}"
)
def test_paths_stay_where_they_were_recorded(entry):
    times = grid(entry["steps"], entry["solver"], entry["schedule"], entry["shift"])
    assert times == pytest.approx(entry["times"], abs=1e-7)  # float32
    start = torch.tensor([1.0, -0.5], dtype=torch.float64)
    path = [step.x.tolist() for step in solve(velocity, start, times, entry["solver"])]
    torch.testing.assert_close(torch.tensor(path), torch.tensor(entry["path"]), rtol=0, atol=1e-6)
