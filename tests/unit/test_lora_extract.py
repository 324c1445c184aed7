"""What two transformers differ in, as a LoRA that makes one into the other."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from adapters import FEW, TARGETS, factors, made, near, peft_folder, velocity
from tiny import TINY

from sakuga.adapters.apply import apply_adapters
from sakuga.adapters.extract import extract, factorise
from sakuga.adapters.fit import fit_adapters
from sakuga.adapters.merge import merge
from sakuga.adapters.spec import parse_adapters
from sakuga.checkpoint.folder import Component, open_component
from sakuga.checkpoint.save import save_component
from sakuga.errors import OutputExists, RequestError, SakugaError, SpecMismatch
from sakuga.model.nextdit import NextDiT


def stored(folder: Path, model: NextDiT) -> Component:
    save_component(folder, model.spec, model.state_dict())
    return open_component(folder, "transformer")


@pytest.fixture
def base(tmp_path: Path) -> Component:
    return stored(tmp_path / "base", made())


def merged_and_found_again(tmp_path: Path, base: Component) -> Path:
    """Merge a LoRA, extract it to tmp_path / "again", and give the one that was merged."""
    lora = peft_folder(tmp_path / "lora", factors(FEW, rank=3), 6)
    merge(base, parse_adapters([str(lora)]), tmp_path / "tuned.safetensors")
    tuned = open_component(tmp_path / "tuned.safetensors", "transformer")
    found = extract(base, tuned, tmp_path / "again", 3)
    assert found.errors.keys() == set(FEW)
    assert found.error <= 1e-5
    assert found.left == ()
    return lora


def test_what_was_merged_is_found_again(tmp_path: Path, base: Component) -> None:
    lora = merged_and_found_again(tmp_path, base)
    model, results = made(), []
    for path in (lora, tmp_path / "again"):
        with (
            torch.inference_mode(),
            apply_adapters(model, fit_adapters(parse_adapters([str(path)]), TARGETS)),
        ):
            results.append(velocity(model))
    assert near(*results)


@pytest.mark.parametrize("storage", ["int8", "float8_e4m3", "int4"])
def test_what_was_merged_into_a_quantised_file_is_found_again(tmp_path: Path, storage: str) -> None:
    save_component(tmp_path / "base", TINY.transformer, made().state_dict(), storage)
    merged_and_found_again(tmp_path, open_component(tmp_path / "base", "transformer"))


def test_a_place_that_cannot_be_written_is_an_error_of_ours(
    tmp_path: Path, base: Component
) -> None:
    tuned = stored(tmp_path / "tuned", made(seed=1))
    (tmp_path / "file").touch()
    for out in (tmp_path / "file", tmp_path / ("n" * 300)):
        with pytest.raises(SakugaError, match="written whole"):
            extract(base, tuned, out, 4)


def test_errors_are_those_of_what_was_written(tmp_path: Path, base: Component) -> None:
    """Held against the matrices themselves, read back from the file."""
    tuned = stored(tmp_path / "tuned", made(seed=1))
    found = extract(base, tuned, tmp_path / "lora", 4)
    lost, whole = 0.0, 0.0
    ours, theirs = made().state_dict(), made(seed=1).state_dict()
    (fit,) = fit_adapters(parse_adapters([str(tmp_path / "lora")]), TARGETS)
    model = NextDiT(TINY.transformer)
    view = apply_adapters(model, [fit])
    for name, error in found.errors.items():
        difference = theirs[f"{name}.weight"] - ours[f"{name}.weight"]
        (delta,) = model.get_submodule(name).deltas
        rest = (difference - delta.matrix()).norm()
        assert error == pytest.approx((rest / difference.norm()).item(), rel=1e-4)
        lost, whole = lost + rest.item() ** 2, whole + difference.norm().item() ** 2
    view.remove()
    assert found.error == pytest.approx((lost / whole) ** 0.5, rel=1e-4)
    assert {name for name, shape in TARGETS.items() if len(shape) == 2} == found.errors.keys()
    assert {name for name in ours if ours[name].dim() == 1} == set(found.left)
    assert "not in the LoRA" in str(found)


def test_more_rank_is_never_worse_and_full_rank_is_exact(tmp_path: Path, base: Component) -> None:
    tuned = stored(tmp_path / "tuned", made(seed=1))
    errors = [extract(base, tuned, tmp_path / f"r{rank}", rank).error for rank in (1, 4, 16, 999)]
    assert errors == sorted(errors, reverse=True)
    assert errors[-1] <= 1e-5
    config = json.loads((tmp_path / "r999" / "adapter_config.json").read_text())
    assert config["rank_pattern"]["layers.0.attention.qkv"] == 48
    (fit,) = fit_adapters(parse_adapters([str(tmp_path / "r999")]), TARGETS)
    assert {change.part.scale for change in fit.changes} == {1.0}


@pytest.mark.parametrize("shape", [(20, 12), (12, 20), (9, 9)])
def test_no_product_of_that_rank_is_nearer(shape: tuple[int, int]) -> None:
    torch.manual_seed(0)
    matrix = torch.randn(shape)
    up, down, lost = factorise(matrix, 3)
    assert (up.shape, down.shape) == ((shape[0], 3), (3, shape[1]))
    assert lost == pytest.approx((matrix - up @ down).norm().item(), rel=1e-6)
    assert lost == pytest.approx(torch.linalg.svdvals(matrix)[3:].norm().item(), rel=1e-5)
    assert up.norm(dim=0).numpy() == pytest.approx(down.norm(dim=1).numpy(), rel=1e-5)


def test_a_matrix_of_less_rank_has_no_more_to_give() -> None:
    torch.manual_seed(0)
    matrix = torch.outer(torch.randn(8), torch.randn(6))
    matrix[:, 2:] = 0
    up, down, lost = factorise(matrix, 5)
    assert lost <= 1e-6 * matrix.norm()
    assert torch.isfinite(up).all()
    assert torch.isfinite(down).all()


def test_what_cannot_be_extracted_is_refused(tmp_path: Path, base: Component) -> None:
    with pytest.raises(SpecMismatch, match="the same linears"):
        extract(base, base, tmp_path / "lora", 4)
    with pytest.raises(RequestError):
        extract(base, base, tmp_path / "lora", 0)
    assert not (tmp_path / "lora").exists()
    (tmp_path / "lora").mkdir()
    (tmp_path / "lora" / "adapter_model.safetensors").touch()
    tuned = stored(tmp_path / "tuned", made(seed=1))
    with pytest.raises(OutputExists):
        extract(base, tuned, tmp_path / "lora", 4)
    extract(base, tuned, tmp_path / "lora", 4, force=True)


def test_transformers_of_two_shapes_have_no_difference(tmp_path: Path, base: Component) -> None:
    spec = TINY.transformer
    longer = NextDiT(type(spec)(**{**spec_fields(spec), "n_layers": 3}))
    with pytest.raises(SpecMismatch, match=r"layers\.2"):
        extract(base, stored(tmp_path / "longer", longer), tmp_path / "lora", 4)


def spec_fields(spec: object) -> dict[str, object]:
    return {name: getattr(spec, name) for name in type(spec).__dataclass_fields__}
