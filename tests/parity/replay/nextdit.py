"""The transformer: its forward pass with all its stages, under guidance, and sampled."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from typing import Any

import torch
from torch import Tensor, nn

from replay.case import Case, CaseError, Sheet, lengths_of, mask_of, pick, right_padded
from replay.sampling import compare_run
from sakuga.model.layers import Segments
from sakuga.model.nextdit import NextDiT
from sakuga.model.packing import Latents, Packing, image_ids, packing_of, text_ids
from sakuga.model.spec import NextDiTSpec
from sakuga.sample.guidance import guided

FIELDS = (
    "dim", "n_layers", "n_refiner_layers", "n_heads", "n_kv_heads", "axes_dims",
    "cap_feat_dim", "clip_text_dim", "multiple_of", "in_channels", "patch_size", "norm_eps",
)  # fmt: skip
CALL = ("cfg_scale", "cfg_trunc", "renorm_cfg")
UNUSED = ("norm_final.weight",)


def forward(case: Case, sheet: Sheet) -> None:
    """Replay one forward pass, stage by stage."""
    model = open_model(case)
    lengths, features, pooled = prompts(case)
    if list(lengths) != case.about["cap_lens"]:
        raise CaseError(f"cap_mask counts {lengths}, cap_lens says {case.about['cap_lens']}")
    latents = latents_of(case)
    sizes = [tuple(latent.shape[-2:]) for latent in latents]
    packing, t = packing_of(model.spec, lengths, sizes, "cpu"), case.input("t")
    stages: dict[str, Tensor] = {}
    with ExitStack() as hooks:
        for name, module in stage_modules(model).items():
            hooks.enter_context(module.register_forward_hook(keep(stages, name)))
        hooks.enter_context(
            model.layers[0].register_forward_pre_hook(
                lambda _, args: stages.__setitem__("joint_in", args[0])
            )
        )
        caption = model.caption(features, packing.text.segments)
        result = model(latents, t, caption, packing.text.segments, pooled)
    stages["cap_embedder"] = packing.text.segments.pack(stages["cap_embedder"])
    stages.setdefault("context_refiner", stages["cap_embedder"])
    stages.setdefault("noise_refiner", stages["x_embedder"])
    stages["final_layer"] = model.final_layer(
        stages["layer_last"], packing.joint, model.modulations(t, pooled).of_end
    )
    compare_results(sheet, result)
    sheet.compare("t_embedder", stages["t_embedder"])
    sheet.compare("adaln_input", model.condition(t, pooled))
    compare_stages(sheet, stages, packing)
    compare_places(sheet, packing)


def stage_modules(model: NextDiT) -> dict[str, nn.Module]:
    """The modules whose results the original recorded; a model may have no refiners."""
    refiners = {"noise_refiner": model.noise_refiner, "context_refiner": model.context_refiner}
    return {name: blocks[-1] for name, blocks in refiners.items() if blocks} | {
        "t_embedder": model.t_embedder,
        "x_embedder": model.x_embedder,
        "cap_embedder": model.cap_embedder,
        "layer0": model.layers[0],
        "layer_last": model.layers[-1],
    }


def keep(stages: dict[str, Tensor], name: str) -> Callable[..., None]:
    """Make a forward hook that keeps the result under `name`."""
    return lambda _module, _args, result: stages.__setitem__(name, result)


def compare_results(sheet: Sheet, result: Latents) -> None:
    """Compare the velocities: one tensor, or one per latent."""
    if isinstance(result, Tensor):
        sheet.compare("x", result)
        return
    for place, velocity in enumerate(result):
        sheet.compare(f"x.{place}", velocity)


def compare_stages(sheet: Sheet, stages: Mapping[str, Tensor], packing: Packing) -> None:
    """Compare packs of tokens with the original's padded batches, where tokens are real."""
    segments = {
        "cap_embedder": packing.text.segments,
        "context_refiner": packing.text.segments,
        "x_embedder": packing.image.segments,
        "noise_refiner": packing.image.segments,
        "joint_in": packing.joint.segments,
        "layer0": packing.joint.segments,
        "layer_last": packing.joint.segments,
        "final_layer": packing.joint.segments,
    }
    for name, where in segments.items():
        golden = sheet.case.output(name)
        if golden is not None:
            ours = right_padded(where.split(stages[name]), golden)
            sheet.compare(name, ours, mask_of(where.lengths, golden.shape[1]))


def compare_places(sheet: Sheet, packing: Packing) -> None:
    """Compare masks, positions and rotary tables, rebuilt from segment lengths."""
    joint = packing.joint.segments
    width = max(joint.lengths)
    real = mask_of(joint.lengths, width)
    sheet.compare("joint_mask", real)
    images = packing.image.segments.lengths
    sheet.compare("img_mask", mask_of(images, max(images)))
    ids = [
        torch.cat((text_ids(length), image_ids(length, *size)))
        for length, size in zip(packing.text.segments.lengths, packing.sizes, strict=True)
    ]
    if (golden := sheet.case.output("position_ids")) is not None:
        sheet.compare("position_ids", right_padded(ids, golden), real)
    for name, table in (("rope_real", packing.joint.cos), ("rope_imag", packing.joint.sin)):
        if (golden := sheet.case.output(name)) is not None:
            rows = table.squeeze(-2)
            rows = rows if joint.uniform is None else rows.expand(len(joint.lengths), -1, -1)
            sheet.compare(name, right_padded(joint.split(rows), golden), real)


def cfg(case: Case, sheet: Sheet) -> None:
    """Replay `forward_with_cfg` for each call, and the plain forward it is compared with."""
    model = open_model(case)
    for call in case.about["calls"]:
        asked = pick(call, (*CALL, "output", "suffix", "t", "x"), {}, "a call")
        field = guided_field(model, case, asked, asked["suffix"])
        sheet.compare(asked["output"], field(case.input(asked["x"]), asked["t"]))
    if sheet.wants("raw_forward_below"):
        x = case.input("x")
        lengths, features, pooled = prompts(case)
        plain = velocity_of(model, lengths, features, pooled)
        sheet.compare("raw_forward_below", plain(x, case.about["raw_t"]))


def sampling(case: Case, sheet: Sheet) -> None:
    """Replay whole samplings of the transformer under guidance."""
    model, z = open_model(case), case.input("z")
    if case.about["field"] != "model.forward_with_cfg":
        raise CaseError(f"the field {case.about['field']!r} is not known")
    for call in case.about["calls"]:
        settings = {key: call[key] for key in CALL}
        rest = {key: value for key, value in call.items() if key not in CALL}
        compare_run(sheet, guided_field(model, case, settings), z, rest, dpm_tolerance=1e-4)


def guided_field(
    model: NextDiT, case: Case, settings: Mapping[str, Any], suffix: str = ""
) -> Callable[[Tensor, float], Tensor]:
    """The original's guidance over a batch [cond..., uncond...]: one velocity, twice.

    The two halves of the state may differ; without guidance only the first is evaluated.
    """
    lengths, features, pooled = prompts(case, suffix)
    count, text = len(lengths) // 2, sum(lengths[: len(lengths) // 2])
    together = velocity_of(model, lengths, features, pooled)
    alone = velocity_of(
        model, lengths[:count], features[:text], None if pooled is None else pooled[:count]
    )

    def both(x: Tensor, t: float) -> tuple[Tensor, Tensor]:
        cond, uncond = together(x, t).chunk(2)
        return cond, uncond

    def conditional(x: Tensor, t: float) -> Tensor:
        return alone(x[:count], t)

    velocity = guided(
        both, settings["cfg_scale"], settings["renorm_cfg"], settings["cfg_trunc"], conditional
    )
    return lambda x, t: velocity(x, t).repeat(2, *[1] * (x.dim() - 1))


def velocity_of(
    model: NextDiT, lengths: Sequence[int], features: Tensor, pooled: Tensor | None
) -> Callable[[Tensor, float], Tensor]:
    """The transformer as a velocity (x, t) of given prompts."""
    segments = Segments(tuple(lengths))
    caption = model.caption(features, segments)
    return lambda x, t: model(x, torch.full((len(x),), t), caption, segments, pooled)


def open_model(case: Case) -> NextDiT:
    """Build the transformer of a case."""
    config = pick(case.about["config"], FIELDS, {"axes_lens": ..., "qk_norm": True}, "config")
    config["axes_dims"] = tuple(config["axes_dims"])
    with torch.device("meta"):
        model = NextDiT(NextDiTSpec(**config))
    case.fill(model, case.named("weights/"), dropped=UNUSED)
    return model


def prompts(case: Case, suffix: str = "") -> tuple[tuple[int, ...], Tensor, Tensor | None]:
    """Caption lengths, packed caption features (T, W) and pooled vectors, if any."""
    mask, features = case.input(f"cap_mask{suffix}"), case.input(f"cap_feats{suffix}")
    lengths = lengths_of(mask)
    packed = torch.cat([row[:n] for row, n in zip(features, lengths, strict=True)])
    return lengths, packed, case.optional(f"clip_text_pooled{suffix}")


def latents_of(case: Case) -> Latents:
    """One tensor of latents, or the list x.0, x.1 ..."""
    if not case.about["x_is_list"]:
        return case.input("x")
    return [case.input(f"x.{place}") for place in range(case.about["batch"])]
