"""What people write in Python: the names they guess, from sakuga's own to diffusers'."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from tests.engines import open_engine

import sakuga
from sakuga.engine.pipeline import DiT, NewbiePipeline
from sakuga.errors import RequestError

pytestmark = pytest.mark.contract

ROOT = Path(__file__).parents[2]
SMALL = {"height": 128, "width": 128, "num_inference_steps": 1}


@pytest.fixture(scope="module")
def pipe() -> NewbiePipeline:
    return NewbiePipeline.from_pretrained("chibi", torch_dtype=torch.float32, device_map="cpu")


def small(prompt: str, seed: int, number: int = 1) -> sakuga.Request:
    return sakuga.Request(prompt, seed=seed, width=128, height=128, steps=1, number=number)


def test_one_picture_is_a_result_and_several_are_a_list() -> None:
    engine = open_engine()
    one = engine.draw(small("1girl", 1))
    assert isinstance(one, sakuga.Result)
    assert one.image.size == (128, 128)
    assert one._repr_png_().startswith(b"\x89PNG")
    several = engine.draw(small("1girl", 1, number=2))
    assert isinstance(several, list)
    assert [each.receipt.seed for each in several] == [1, 2]


def test_a_batch_in_python_draws_what_single_drawings_do() -> None:
    engine, read = open_engine(), []
    requests = [small("1girl", 1), small("1boy", 2), small("1girl", 3)]
    alone = [engine.draw(one).picture for one in requests]
    with engine.observed(lambda where, *_: read.append(where)):
        assert [one.picture for one in engine.batch(requests)] == alone
    assert read.count("gemma") == 1
    assert engine.encoders.cache is None


def test_a_pipeline_is_called_as_diffusers_are(pipe: NewbiePipeline) -> None:
    steps: list[int] = []
    out = pipe(
        "1girl, smile", negative_prompt="lowres", guidance_scale=3.0, num_images_per_prompt=2,
        generator=torch.Generator().manual_seed(5),
        callback_on_step_end=lambda _pipe, step, _time, kept: steps.append(step) or kept, **SMALL,
    )  # fmt: skip
    assert [one.size for one in out.images] == [(128, 128)] * 2
    assert steps == [0, 0]
    again = pipe.engine.draw(
        sakuga.Request(
            "1girl, smile", negative="lowres", guidance=3.0, seed=6, width=128, height=128, steps=1
        )
    )
    assert out.results[1].picture == again.picture


@pytest.mark.parametrize(("kind", "shape"), [("np", (1, 128, 128, 3)), ("pt", (1, 3, 128, 128))])
def test_a_pipeline_gives_numbers_too(pipe: NewbiePipeline, kind: str, shape: object) -> None:
    images = pipe("1girl", output_type=kind, **SMALL).images
    assert tuple(images.shape) == shape
    assert 0 <= float(images.min()) <= float(images.max()) <= 1


def test_what_a_pipeline_does_not_know_is_named(pipe: NewbiePipeline) -> None:
    with pytest.raises(RequestError, match="num_inference_steps"):
        pipe("1girl", num_inference_step=3)
    with pytest.raises(RequestError, match="Did you mean 'pil'"):
        pipe("1girl", output_type="pill")
    with pytest.raises(RequestError, match="torch_dtype"):
        NewbiePipeline.from_pretrained("chibi", torch_dtipe="auto")


def test_a_pipeline_goes_where_it_is_sent(pipe: NewbiePipeline) -> None:
    assert pipe.to("cpu") is pipe
    pipe.enable_model_cpu_offload()
    assert pipe.engine.spec.device == "cpu"


def test_the_transformer_alone_gives_velocities() -> None:
    network = DiT.from_pretrained("chibi").to("cpu")
    spec = network.network.spec
    x = torch.randn(2, spec.in_channels, 16, 16, generator=torch.Generator().manual_seed(0))
    c = torch.randn(2, 7, spec.cap_feat_dim, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        v = network(x, torch.tensor([0.1, 0.9]), c)
        assert torch.allclose(v[1:], network(x[1:], torch.tensor([0.9]), c[1:]), atol=1e-4)
    assert v.shape == x.shape
    assert bool(v.isfinite().all())


def test_the_page_runs_as_it_stands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    page = (ROOT / "docs" / "python.md").read_text(encoding="utf-8")
    known: dict[str, object] = {}
    for snippet in re.findall(r"```python\n(.*?)```", page, re.DOTALL):
        exec(snippet, known)  # the page is ours
    assert (tmp_path / "smile.png").exists()
    assert known["velocity"].shape == known["x"].shape  # type: ignore[attr-defined]


def test_the_types_of_the_examples_hold() -> None:
    said = subprocess.run(
        [sys.executable, "-m", "mypy", "examples/test.py", "examples/create.py"], cwd=ROOT,
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert said.returncode == 0, said.stdout


def test_the_loop_of_prompts_draws_each(tmp_path: Path) -> None:
    said = subprocess.run(
        [sys.executable, str(ROOT / "examples" / "create.py")], input="1girl\n<!DOCTYPE a>\n\n",
        cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert said.returncode == 0, said.stderr
    assert (tmp_path / "create-1.png").exists()
    assert "got" in said.stdout
