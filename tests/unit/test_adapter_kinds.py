"""Every kind of adapter, against its definition written out here, applied, merged and removed."""

from __future__ import annotations

import json
import re
from itertools import combinations
from pathlib import Path

import pytest
import torch
from adapters import TARGETS, factors, made, peft_folder, saved
from safetensors.torch import load_file
from torch import Tensor

from sakuga.adapters.apply import apply_adapters
from sakuga.adapters.deltas import rotation_of_triangles
from sakuga.adapters.file import read_adapter
from sakuga.adapters.fit import Fit, fit_adapters, remarks
from sakuga.adapters.kinds import BY_ROLES, KINDS
from sakuga.adapters.spec import parse_adapter, parse_adapters
from sakuga.commands.doctor.files import adapters
from sakuga.commands.lora import describe_adapter, read_shown
from sakuga.errors import BindError, CorruptFile, LayoutError, SakugaError
from sakuga.model.nextdit import NextDiT
from sakuga.weights.formats import FORMATS
from sakuga.weights.stored import keep_stored

QKV, W2 = "layers.0.attention.qkv", "layers.1.feed_forward.w2"
MOD, NORM = "layers.0.adaLN_modulation.1", "layers.0.ffn_norm1"


def fits(text: object, **options: bool) -> tuple[Fit, ...]:
    return fit_adapters(parse_adapters([str(text)]), TARGETS, **options)


class Draw:
    def __init__(self, seed: int) -> None:
        self.source = torch.Generator().manual_seed(seed)

    def __call__(self, *shape: int) -> Tensor:
        return torch.randn(shape, generator=self.source) * 0.3


def low_rank(kind: str, draw: Draw, shape: tuple[int, int], rank: int) -> tuple[dict, Tensor]:
    """Tensors by their ends, and D unscaled."""
    rows, columns = shape
    if kind == "lora":
        up, down = draw(rows, rank), draw(rank, columns)
        return {"lora_up.weight": up, "lora_down.weight": down}, up @ down
    if kind == "lokr":
        w1, a, b = draw(4, 2), draw(rows // 4, rank), draw(rank, columns // 2)
        return {"lokr_w1": w1, "lokr_w2_a": a, "lokr_w2_b": b}, torch.kron(w1, a @ b)
    a, b, c, d = draw(rows, rank), draw(rank, columns), draw(rows, rank), draw(rank, columns)
    made_of = {"hada_w1_a": a, "hada_w1_b": b, "hada_w2_a": c, "hada_w2_b": d}
    return made_of, (a @ b) * (c @ d)


def cayley(skew: Tensor) -> Tensor:
    one = torch.eye(skew.shape[-1], dtype=torch.float64)
    return ((one + skew.double()) @ torch.linalg.inv(one - skew.double())).float()


def blocks(parts: Tensor) -> Tensor:
    return torch.block_diag(*parts)


def case(kind: str, draw: Draw, weight: Tensor, rank: int, s: float) -> tuple[dict, Tensor]:
    """The tensors of a kind by their ends, and the weight at a strength."""
    rows, columns = weight.shape
    if kind == "diff":
        change = draw(rows, columns)
        return {"diff": change}, weight + s * change
    if kind == "oft":
        q = draw(rows // 8, 8, 8)
        turned = blocks(cayley(q - q.transpose(1, 2))).T @ weight
        return {"oft_blocks": q, "alpha": torch.tensor(0.0)}, weight + s * (turned - weight)
    family, _, side = kind.partition("+")
    tensors, delta = low_rank(family, draw, (rows, columns), rank)
    tensors["alpha"] = torch.tensor(rank / 2)
    delta = delta / 2
    if not side:
        return tensors, weight + s * delta
    axis = {"rows": 1, "columns": 0}[side]
    both = weight + delta
    norms = both.norm(dim=axis, keepdim=True)
    tensors["dora_scale"] = norms * (1 + draw(*norms.shape))
    return tensors, both * (s * (tensors["dora_scale"] / norms - 1) + 1)


FAMILIES = ("lora", "lokr", "loha")
CASES = (
    *FAMILIES,
    *(f"{f}+{side}" for f in FAMILIES for side in ("rows", "columns")),
    "oft",
    "diff",
)


def check(path: object, module: str, want: Tensor, model: NextDiT | None = None) -> None:
    """The module computes with the weight that is wanted, and afterwards as it did."""
    model = model or made()
    linear = model.get_submodule(module)
    x = Draw(99)(7, want.shape[1])
    with torch.inference_mode():
        before = linear(x)
        with apply_adapters(model, fits(path)):
            got = model.get_submodule(module)(x)
        assert model.get_submodule(module) is linear
        assert torch.equal(linear(x), before)
        bias = 0 if linear.bias is None else linear.bias
        expected = x @ want.T + bias
        assert (got - expected).abs().max() <= 1e-5 * expected.abs().max()
        assert (got - before).abs().max() > 1e-3 * expected.abs().max()


@pytest.mark.parametrize("strength", [1.0, 0.5, -1.0])
@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("kind", CASES)
def test_a_kind_is_its_definition(tmp_path: Path, kind: str, seed: int, strength: float) -> None:
    for module in (QKV, W2, MOD):
        weight = made().get_submodule(module).weight
        tensors, want = case(kind, Draw(seed), weight, 2 + 5 * seed, strength)
        named = {f"lycoris_{module.replace('.', '_')}.{end}": v for end, v in tensors.items()}
        file = saved(tmp_path / "a.safetensors", {k: v.contiguous() for k, v in named.items()})
        check(f"{file}:{strength}", module, want)


@pytest.mark.parametrize("kind", CASES)
@pytest.mark.parametrize("form", ["int8", "int4", "float8_e4m3"])
def test_a_stored_base_is_what_it_unfolds_to(tmp_path: Path, kind: str, form: str) -> None:
    model = made()
    keep_stored(model, FORMATS[form])
    weight = model.get_submodule(QKV).unfolded(torch.float32)
    tensors, want = case(kind, Draw(3), weight, 3, 0.7)
    named = {f"{QKV}.{end}": value.contiguous() for end, value in tensors.items()}
    check(f"{saved(tmp_path / 'a.safetensors', named)}:0.7", QKV, want, model)


@pytest.mark.parametrize("kind", CASES)
def test_what_is_held_is_what_the_planner_counts(tmp_path: Path, kind: str) -> None:
    weight = made().get_submodule(QKV).weight
    for rank in (2, 9):
        tensors, _ = case(kind, Draw(0), weight, rank, 1.0)
        named = {f"{QKV}.{end}": value.contiguous() for end, value in tensors.items()}
        (fitted,) = fits(saved(tmp_path / "a.safetensors", named))
        model = made()
        with apply_adapters(model, (fitted,)):
            held = dict(model.get_submodule(QKV).deltas[0].named_buffers())
        (part,) = fitted.adapter.parts
        assert {name: tuple(value.shape) for name, value in held.items()} == dict(part.kept)


@pytest.mark.parametrize("kind", [*CASES, "whole"])
@pytest.mark.parametrize("side", ["q", "v"])
def test_a_kind_changes_some_rows_of_a_fused_linear(tmp_path: Path, kind: str, side: str) -> None:
    """Names that know query, key and value apart change their rows alone."""
    weight = made().get_submodule(QKV).weight
    rows = {"q": slice(0, 48), "v": slice(72, 96)}[side]
    draw = Draw(5)
    if kind == "whole":
        part = draw(*weight[rows].shape)
        tensors, end = {"weight": part}, "base_model.model."
    else:
        tensors, part = case(kind, draw, weight[rows], 3, 0.6)
        end = ""
    want = weight.clone()
    want[rows] = part
    stem = f"{end}layers.0.attention.to_{side}"
    file = saved(
        tmp_path / "a.safetensors", {f"{stem}.{e}": v.contiguous() for e, v in tensors.items()}
    )
    check(f"{file}:0.6" if kind != "whole" else file, QKV, want)


@pytest.mark.parametrize(("terms", "powers"), [(2, [2]), (3, [2, 2, 1]), (5, [2, 2, 2, 1])])
def test_pefts_series_has_its_terms(terms: int, powers: list[int]) -> None:
    values = Draw(0)(3, 6)
    skew = torch.zeros(3, 4, 4)
    for place, (i, j) in enumerate(combinations(range(4), 2)):
        skew[:, i, j], skew[:, j, i] = values[:, place], -values[:, place]
    want = sum(c * torch.linalg.matrix_power(skew, n + 1) for n, c in enumerate(powers))
    torch.testing.assert_close(rotation_of_triangles(values, terms), want)
    exact = rotation_of_triangles(values, 0)
    torch.testing.assert_close(exact + torch.eye(4), cayley(-skew))


@pytest.mark.parametrize("shared", [False, True])
def test_pefts_oft_turns_the_inputs(tmp_path: Path, shared: bool) -> None:
    weight = made().get_submodule(QKV).weight
    values = Draw(0)(1 if shared else 6, 28)
    turn = rotation_of_triangles(values, 5) + torch.eye(8)
    want = weight @ blocks(turn.expand(6, -1, -1)).T
    file = saved(tmp_path / "a.safetensors", {f"base_model.model.{QKV}.oft_R.weight": values})
    check(file, QKV, want)


def test_biases_differences_and_whole_weights(tmp_path: Path) -> None:
    draw, model = Draw(4), made()
    linear = model.get_submodule(MOD)
    rows, columns = linear.weight.shape
    up, down, shift, bias = draw(rows, 4), draw(4, columns), draw(rows), draw(rows)
    stem = f"base_model.model.{MOD}"
    lora = {f"{stem}.lora_A.weight": down, f"{stem}.lora_B.weight": up,
            f"{stem}.lora_B.bias": shift, f"{stem}.alpha": torch.tensor(2.0)}  # fmt: skip
    cases = {
        "lora_bias": (lora, linear.weight + up @ down / 2, linear.bias + shift / 2),
        "lora_only": ({f"{stem}.base_layer.bias": bias}, linear.weight, bias),
        "diff_b": ({f"diffusion_model.{MOD}.diff_b": bias}, linear.weight, linear.bias + bias),
        "whole": ({f"{stem}.weight": up @ down, f"{stem}.bias": bias}, up @ down, bias),
        "modules_to_save": (
            {f"{stem}.modules_to_save.bias": bias, f"{stem}.bias": bias.clone(),
             f"{stem}.original_module.bias": bias * 2}, linear.weight, bias),
    }  # fmt: skip
    x = draw(5, columns)
    for name, (tensors, weight, wanted) in cases.items():
        file = saved(tmp_path / f"{name}.safetensors", tensors)
        with torch.inference_mode(), apply_adapters(model, fits(file)):
            got = model.get_submodule(MOD)(x)
        torch.testing.assert_close(got, x @ weight.T + wanted, rtol=1e-5, atol=1e-5, msg=name)
    norm = saved(tmp_path / "n.safetensors", {f"diffusion_model.{NORM}.diff": torch.ones(48)})
    (fitted,) = fits(norm)
    assert [change.part.kind for change in fitted.changes] == ["norm"]


@pytest.mark.parametrize(
    ("name", "module"),
    [
        ("transformer.layers.0.attention.processor.to_q_lora.{}.weight", QKV),
        ("unet.layers.0.attention.to_q.lora_linear_layer.{}.weight", QKV),
        ("transformer.layers.0.attention.to_q.lora.{}.weight", QKV),
    ],
)
def test_old_names_of_diffusers(tmp_path: Path, name: str, module: str) -> None:
    name = name.removeprefix("unet.")
    tensors = {name.format("up"): torch.ones(48, 2), name.format("down"): torch.ones(2, 48)}
    (change,) = fits(saved(tmp_path / "a.safetensors", tensors))[0].changes
    assert (change.module, change.rows) == (module, (0, 48))


def lokr_folder(folder: Path, **config: object) -> Path:
    tensors = {f"base_model.model.{QKV}.lokr_w1": torch.ones(4, 4),
               f"base_model.model.{QKV}.lokr_w2": torch.ones(24, 12)}  # fmt: skip
    saved(folder / "adapter_model.safetensors", tensors)
    told = {"peft_type": "LOKR", "r": 64, "alpha": 16, **config}
    (folder / "adapter_config.json").write_text(json.dumps(told), encoding="utf-8")
    return folder


def test_a_lokr_of_peft_is_scaled_by_its_config_whole_or_not(tmp_path: Path) -> None:
    def scale(path: object) -> float:
        (part,) = read_adapter(parse_adapter(str(path))).parts
        return part.scale

    folder = lokr_folder(tmp_path / "a")
    assert scale(folder) == 16 / 64
    assert scale(f"{folder}:1:alpha=32") == 32 / 64
    patterns = lokr_folder(tmp_path / "b", alpha_pattern={"qkv": 4}, rank_pattern={"qkv": 8})
    assert scale(patterns) == 4 / 8
    lone = (folder / "adapter_model.safetensors").rename(tmp_path / "lone.safetensors")
    with pytest.raises(LayoutError, match="alpha divided by its r"):
        scale(lone)
    assert scale(f"{lone}:1:alpha=0.25") == 0.25
    (told,) = remarks(read_adapter(parse_adapter(f"{lone}:1:alpha=16")))
    assert "alpha=16 is the scale itself" in told
    assert "alpha 16 of r 64 alpha=0.25" in told
    known = lokr_folder(tmp_path / "c")
    assert not [*remarks(read_adapter(parse_adapter(f"{known}:1:alpha=16")))]


def test_what_is_advised_of_split_qkv_makes_three_of_a_third(tmp_path: Path) -> None:
    up, down = Draw(0)(96, 3), Draw(1)(3, 48)
    other = Draw(2)(48, 3)
    flat, out = (f"lora_unet_layers_0_attention_{name}" for name in ("qkv", "out"))
    tensors = {f"{flat}.lora_up.weight": up, f"{flat}.lora_down.weight": down,
               f"{out}.lora_up.weight": other, f"{out}.lora_down.weight": down.clone(),
               f"{flat}.alpha": torch.tensor(1.0), f"{out}.alpha": torch.tensor(1.0)}  # fmt: skip
    file = saved(tmp_path / "a.safetensors", tensors, {"ss_network_args": '{"split_qkv": "True"}'})
    (told,) = remarks(read_adapter(parse_adapter(str(file))))
    (advice,) = re.findall(r":\S+=3", told)
    for module, factor in ((QKV, 3), ("layers.0.attention.out", 1)):
        change = (up if module == QKV else other) @ down / 3
        check(f"{file}:1{advice}", module,
              made().get_submodule(module).weight + factor * change)  # fmt: skip


def test_what_is_told_of_an_adapter(tmp_path: Path) -> None:
    whole = {f"lycoris_{QKV.replace('.', '_')}.lokr_w1": torch.ones(4, 4),
             f"lycoris_{QKV.replace('.', '_')}.lokr_w2": torch.ones(24, 12)}  # fmt: skip
    file = saved(tmp_path / "a.safetensors", whole,
                 {"ss_network_args": '{"split_qkv": "True"}'})  # fmt: skip
    told = " ".join(remarks(read_adapter(parse_adapter(f"{file}:1:alpha=4"))))
    assert "alpha= has no effect" in told
    assert "split_qkv" in told
    lone = saved(tmp_path / "b.safetensors", {
        f"layers.{i}.x.lora_{e}.weight": torch.ones(2, 2) for i in range(9) for e in "AB"
    })  # fmt: skip
    (told,) = remarks(read_adapter(parse_adapter(str(lone))))
    assert told.count("layers.") == 2
    assert "7 more modules" in told


def test_a_rslora_flag_in_the_metadata_counts(tmp_path: Path) -> None:
    folder = peft_folder(tmp_path / "a", factors((QKV,), rank=4), 8)
    tensors = load_file(folder / "adapter_model.safetensors")
    file = saved(tmp_path / "a.safetensors", tensors, {"lora_alpha": "8", "use_rslora": "True"})
    (part,) = read_adapter(parse_adapter(str(file))).parts
    assert part.scale == 8 / 2


@pytest.mark.parametrize("end", ["unknown", "lora_C.weight", "attention_scale"])
def test_partial_never_halves_a_module(tmp_path: Path, end: str) -> None:
    folder = peft_folder(tmp_path / "a", factors((QKV,), rank=4), 8)
    tensors = load_file(folder / "adapter_model.safetensors")
    tensors[f"base_model.model.{QKV}.{end}"] = torch.ones(4)
    with pytest.raises(BindError, match="never in halves"):
        fits(saved(tmp_path / "a.safetensors", tensors), partial=True)


ONE = torch.ones
HADA = {f"hada_w{i}_{e}": ONE(96, 2) if e == "a" else ONE(2, 48) for i in (1, 2) for e in "ab"}
LORA = {"lora_up.weight": ONE(96, 2), "lora_down.weight": ONE(2, 48)}
HOSTILE = {
    "hada without a factor": {k: v for k, v in HADA.items() if k != "hada_w2_b"},
    "hada of two ranks": HADA | {"hada_w1_a": ONE(96, 3), "hada_w1_b": ONE(3, 48)},
    "hada of two shapes": HADA | {"hada_w1_a": ONE(95, 2)},
    "hada of rank 0": {k: ONE(96, 0) if k[-1] == "a" else ONE(0, 48) for k in HADA},
    "hada of a cube": HADA | {"hada_w1_a": ONE(96, 2, 1)},
    "hada with NaN": HADA | {"hada_w1_a": ONE(96, 2) * float("nan")},
    "hada that overflows": {k: v * 1e38 for k, v in HADA.items()},
    "hada and lora": HADA | LORA,
    "magnitude alone": {"dora_scale": ONE(96, 1)},
    "magnitude of a scalar": LORA | {"dora_scale": torch.tensor(1.0)},
    "magnitude of the wrong side": LORA | {"dora_scale": ONE(48, 1)},
    "magnitude of a matrix": LORA | {"dora_scale": ONE(96, 48)},
    "magnitude of bytes": LORA | {"dora_scale": ONE(96, 1, dtype=torch.uint8)},
    "magnitude with NaN": LORA | {"dora_scale": ONE(96, 1) * float("nan")},
    "magnitude with infinity": LORA | {"lora_magnitude_vector": ONE(96) * float("inf")},
    "magnitudes twice": LORA | {"dora_scale": ONE(96, 1), "lora_magnitude_vector": ONE(96)},
    "huge alpha": LORA | {"alpha": torch.tensor(3e38), "dora_scale": ONE(96, 1)},
    "infinite alpha": LORA | {"alpha": torch.tensor(float("inf"))},
    "triangle of no matrix": {"oft_R.weight": ONE(6, 27)},
    "triangles too many": {"oft_R.weight": ONE(7, 28)},
    "shared that does not divide": {"oft_R.weight": ONE(1, 10)},
    "triangles of none": {"oft_R.weight": ONE(6, 0)},
    "triangles with NaN": {"oft_R.weight": ONE(6, 28) * float("nan")},
    "triangles that overflow": {"oft_R.weight": ONE(6, 28) * 1e30},
    "old OFT of PEFT": {"oft_R.weight": ONE(6, 8, 8)},
    "blocks not square": {"oft_blocks": ONE(12, 8, 7)},
    "blocks too many": {"oft_blocks": ONE(13, 8, 8)},
    "blocks of four": {"oft_blocks": ONE(2, 6, 8, 8)},
    "blocks with a constraint below 0": {"oft_blocks": ONE(12, 8, 8), "alpha": torch.tensor(-1.0)},
    "bias alone": {"lora_B.bias": ONE(96)},
    "bias too long": LORA | {"lora_B.bias": ONE(97)},
    "diff of another shape": {"diff": ONE(95, 48)},
    "diff of four": {"diff": ONE(96, 48, 1, 1)},
    "diff with NaN": {"diff": ONE(96, 48) * float("nan")},
    "bias diff of a matrix": {"diff_b": ONE(96, 1)},
    "norm of a linear": {"diff": ONE(96)},
}


@pytest.mark.parametrize("name", HOSTILE)
def test_what_fits_nothing_is_refused_and_changes_nothing(tmp_path: Path, name: str) -> None:
    file = saved(tmp_path / "a.safetensors", {f"{QKV}.{e}": v for e, v in HOSTILE[name].items()})
    model = made()
    linear = model.get_submodule(QKV)
    with pytest.raises(SakugaError) as error, torch.inference_mode():
        apply_adapters(model, fits(file, partial=True))
    assert isinstance(error.value, BindError | CorruptFile | LayoutError)
    assert model.get_submodule(QKV) is linear


def test_show_says_a_side_that_is_not_known_and_a_bias_as_it_is(tmp_path: Path) -> None:
    def rows(tensors: dict[str, Tensor]) -> str:
        named = {f"base_model.model.{MOD}.{end}": value for end, value in tensors.items()}
        file = saved(tmp_path / "a.safetensors", named)
        return "\n".join(describe_adapter(read_shown(str(file), None)))

    assert " ?x48 " in rows({"oft_R.weight": torch.ones(6, 28)})
    assert " 192x? " in rows({"oft_blocks": torch.ones(24, 8, 8)})
    assert " 192 " in rows({"diff_b": torch.ones(192)})


def test_a_doctor_names_the_adapters_of_a_folder_in_a_line_each(tmp_path: Path) -> None:
    weight = made().get_submodule(QKV).weight
    for kind in ("lora+rows", "oft"):
        tensors, _ = case(kind, Draw(0), weight, 3, 1.0)
        named = {f"{QKV}.{end}": value.contiguous() for end, value in tensors.items()}
        saved(tmp_path / "loras" / f"{kind}.safetensors", named)
    peft_folder(tmp_path / "loras" / "style", factors((QKV, W2), rank=4), 8)
    saved(tmp_path / "model.safetensors", {f"{QKV}.weight": weight})
    saved(tmp_path / "glora.safetensors", {f"{QKV}.{end}.weight": ONE(4, 4)
          for end in ("a1", "a2", "b1", "b2")})  # fmt: skip
    (tmp_path / "torn.safetensors").write_bytes(b"torn")
    found = {one.check: one for one in adapters(tmp_path)}
    told = {name.removeprefix("adapter "): one.says for name, one in found.items()}
    assert {name: told[name] for name in told if name != "glora.safetensors"} == {
        "loras/lora+rows.safetensors": "1 DoRA",
        "loras/oft.safetensors": "1 diag-OFT",
        "loras/style/adapter_model.safetensors": "2 LoRA",
    }
    assert "GLoRA" in told["glora.safetensors"]
    assert all("\n" not in one.says for one in found.values())


def test_every_set_of_roles_is_of_one_kind() -> None:
    assert len(BY_ROLES) == sum(len(kind.sets) for kind in KINDS)
    assert len({kind.name for kind in KINDS}) == len(KINDS)
