"""`sakuga bench binding`: rows listed, refused, drawn and written down."""

from __future__ import annotations

import json
from pathlib import Path

from sakuga.chibi.binding.rows import all_rows


def test_the_rows_are_listed(run) -> None:
    code, out, _ = run("bench", "binding", "--list", "--rows", "who: look-alikes")
    assert code == 0
    assert out.split("\n")[:-1] == [
        row.name for row in all_rows() if row.name.startswith("who: look-alikes")
    ]


def test_a_row_that_is_none_is_refused_with_the_way_to_find_it(run) -> None:
    code, _, err = run("bench", "binding", "--rows", "whom")
    assert code
    assert "--list" in err


def test_a_row_is_drawn_judged_and_written(run, tmp_path: Path) -> None:
    code, out, _ = run(
        "bench", "binding", "--rows", "said: XML, 1 said", "--pictures", "1", "--out",
        str(tmp_path / "kept"), "--device", "cpu", "--json",
    )  # fmt: skip
    assert code == 0
    told = json.loads(out)
    assert told == json.loads((tmp_path / "kept" / "binding.json").read_text())
    (row,) = told["rows"]
    assert row["drawn"]["pictures"] == row["renders"]["pictures"] == 1
    assert row["renders"]["whole"] == 1
    assert row["drawn"]["atoms"][1] == 2
    assert list((tmp_path / "kept").glob("*.png"))
