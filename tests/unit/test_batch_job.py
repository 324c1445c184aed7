"""Jobs: every kind of file, what a row becomes, and where a bad one stands."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from sakuga.batch.job import JobFile, open_job
from sakuga.batch.variation import Axis, Variation
from sakuga.errors import RequestError
from sakuga.prompt.wildcards import Wildcards

pytestmark = pytest.mark.unit

ROWS = [{"prompt": "1girl", "seed": 3, "steps": 4}, {"prompt": "1boy", "seed": 5, "steps": 9}]
FILES = {
    "job.jsonl": '{"defaults": {"steps": 4}}\n{"prompt": "1girl", "seed": 3}\n'
    '{"prompt": "1boy", "seed": 5, "steps": 9}\n',
    "job.json": json.dumps({"steps": 4, "rows": [{"prompt": "1girl", "seed": 3}, ROWS[1]]}),
    "job.toml": 'steps = 4\n[[rows]]\nprompt = "1girl"\nseed = 3\n'
    '[[rows]]\nprompt = "1boy"\nseed = 5\nsteps = 9\n',
    "job.csv": "# steps = 4\nprompt,seed,steps\n1girl,3,\n1boy,5,9\n",
    "job.tsv": "# steps = 4\nprompt\tseed\tsteps\n1girl\t3\t\n1boy\t5\t9\n",
}


def job(folder: Path, name: str, text: str, vary: Variation | None = None) -> JobFile:
    (folder / name).write_text(text, encoding="utf-8")
    return open_job(str(folder / name), {}, vary=vary)


@pytest.mark.parametrize("name", FILES)
def test_every_kind_of_file_says_the_same(tmp_path: Path, name: str) -> None:
    read = job(tmp_path, name, FILES[name])
    assert [dict(one.fields) for one in read.rows] == ROWS
    assert read.wrong == []


def test_prompts_as_text_are_lines_or_blocks(tmp_path: Path) -> None:
    lines = job(tmp_path, "a.txt", "1girl\n\n# a remark\n{red|blue} hair\n")
    assert [one.where[-1] for one in lines.rows] == ["1", "4"]
    blocks = job(tmp_path, "b.txt", "<character_1>\n<n>a</n>\n</character_1>\n\n\n1boy\n")
    assert [one.where[-1] for one in blocks.rows] == ["1", "6"]


def test_a_folder_of_prompts_names_its_pictures(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "b.xml").write_text("<general_tags><count>1boy</count></general_tags>")
    (tmp_path / "a.txt").write_text("1girl")
    (tmp_path / ".hidden.txt").write_text("no")
    assert [one.name for one in open_job(str(tmp_path), {"steps": 2}).rows] == ["a", "sub_b"]


@pytest.mark.parametrize(
    ("name", "text", "where", "said"),
    [
        ("a.csv", 'prompt,steps\n"a,\nb",4\nc,900\n', "a.csv:4:2", "1 to 200"),
        ("b.csv", "prompt,stepz\na,4\n", "b.csv:2:2", "Did you mean 'steps'"),
        ("c.csv", "prompt,steps\na,4,5\n", "c.csv:2:3", "at most the 2 columns"),
        ("d.jsonl", '{"prompt": "a"}\n{"prompt": }\n', "d.jsonl:2:12", "must be JSON"),
        ("e.jsonl", '{"prompt": "a", "image": "../x.png"}\n', "e.jsonl:1", "--allow-outside"),
        ("f.jsonl", '{"seed": 1}\n', "f.jsonl:1", "needs a prompt"),
        ("g.toml", '[[rows]]\nprompt = "a"\n\n[[rows]]\nprompt = 3\n', "g.toml:4", "text"),
        ("h.jsonl", '{"prompt": "a", "lora": ["/x/y:0.5"]}\n', "h.jsonl:1", "--allow-outside"),
    ],
)
def test_a_bad_row_says_where_it_stands(
    tmp_path: Path, name: str, text: str, where: str, said: str
) -> None:
    ((place, error),) = job(tmp_path, name, text).wrong
    assert place.endswith(where)
    assert said in error


def test_wrong_defaults_stop_the_job(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="holds for all rows"):
        job(tmp_path, "a.csv", "# steps = 900\nprompt\na\n")


def test_a_row_without_a_seed_has_always_the_same(tmp_path: Path) -> None:
    first = job(tmp_path, "a.txt", "1girl\n1boy\n1girl\n").rows
    moved = job(tmp_path, "a.txt", "2girls\n1girl\n1girl\n").rows
    assert len({one.fields["seed"] for one in first}) == 3
    assert [one.fields["seed"] for one in moved[1:]] == [
        first[0].fields["seed"], first[2].fields["seed"]
    ]  # fmt: skip


def test_too_many_choices_are_refused_with_their_count(tmp_path: Path) -> None:
    text = "{0|1|2|3|4|5|6|7|8|9}" * 9 + "\n1girl\n"
    read = job(tmp_path, "a.txt", text, Variation(every=True))
    assert len(read.rows) == 1
    assert "1,000,000,000" in read.wrong[0][1]


def test_choices_are_picked_by_row_and_number(tmp_path: Path) -> None:
    vary = Variation(Wildcards(), number=30)
    rows = job(tmp_path, "a.txt", "{red|blue} hair\n", vary).rows
    again = job(tmp_path, "a.txt", "1girl\n{red|blue} hair\n", vary).rows[30:]
    prompts = [one.fields["prompt"] for one in rows]
    assert set(prompts) == {"red hair", "blue hair"}
    assert [one.fields["prompt"] for one in again] == prompts
    assert len({one.fields["seed"] for one in rows}) == 30
    assert rows[0].notes[0].startswith("{red|blue}: ")


def test_a_grid_has_every_place_and_one_seed(tmp_path: Path) -> None:
    axes = (Axis.parse("guidance=3,4.5"), Axis.parse("appearance=s/blue/red/"))
    text = "<character_1><n>blue</n><appearance>blue_hair</appearance></character_1>\n"
    rows = job(tmp_path, "a.txt", text, Variation(axes=axes)).rows
    assert [(one.fields["guidance"], "red_hair" in one.fields["prompt"]) for one in rows] == [
        (3.0, False), (3.0, True), (4.5, False), (4.5, True)
    ]  # fmt: skip
    assert all("<n>blue</n>" in one.fields["prompt"] for one in rows)
    assert len({one.fields["seed"] for one in rows}) == 1
    wrong = job(tmp_path, "a.txt", "1girl\n", Variation(axes=axes)).wrong
    assert "appearance has what is replaced" in wrong[0][1]
