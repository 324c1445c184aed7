"""Adapters: read from files as a user's would be, applied to the transformer, and folded in."""

from __future__ import annotations

import json
from math import isclose
from pathlib import Path
from tempfile import TemporaryDirectory

from safetensors.torch import load_file, save_file
from torch import Tensor

from replay.case import Case, CaseError, Sheet
from replay.nextdit import UNUSED, open_model, prompts
from sakuga.adapters.apply import apply_adapters
from sakuga.adapters.fit import Fit, fit_adapters, targets_of
from sakuga.adapters.merge import merge
from sakuga.adapters.spec import AdapterSpec
from sakuga.checkpoint.bind import wanted_of
from sakuga.checkpoint.families.tables import config_of
from sakuga.checkpoint.folder import open_component
from sakuga.checkpoint.save import write_json
from sakuga.model.layers import Segments
from sakuga.model.nextdit import NextDiT


def replay(case: Case, sheet: Sheet) -> None:
    """Write the adapter's and the base's files, and do all that is done with them."""
    model = open_model(case)
    with TemporaryDirectory() as folder:
        path = write_adapter(case, Path(folder) / "adapter")
        targets = targets_of({key: want.shape for key, want in wanted_of(model).items()})
        fits = fit_adapters([AdapterSpec(path)], targets)
        check_scales(case, fits[0])
        before = velocity(case, model)
        with apply_adapters(model, fits):
            sheet.compare("x", velocity(case, model))
        if not velocity(case, model).equal(before):
            raise CaseError("the model is not what it was after the adapter was removed")
        merged = merged_weights(case, model, path)
    sheet.compare("x_base", before)
    compare_merged(case, sheet, merged)
    case.fill(model, merged, dropped=UNUSED)
    sheet.compare("x_merged", velocity(case, model))


def write_adapter(case: Case, folder: Path) -> Path:
    """The folder that the trainer wrote."""
    folder.mkdir()
    file, metadata = folder / "adapter_model.safetensors", case.about.get("adapter_file_metadata")
    save_file(case.named("input/adapter/"), file, metadata)
    if (config := case.about.get("adapter_config")) is not None:
        (folder / "adapter_config.json").write_text(json.dumps(config), encoding="utf-8")
    return folder


def velocity(case: Case, model: NextDiT) -> Tensor:
    """One forward pass."""
    lengths, features, pooled = prompts(case)
    segments = Segments(lengths)
    caption = model.caption(features, segments)
    return model(case.input("x"), case.input("t"), caption, segments, pooled)


def merged_weights(case: Case, model: NextDiT, adapter: Path) -> dict[str, Tensor]:
    """The base's file with the adapter folded in."""
    base, out = adapter.with_name("base"), adapter.with_name("merged.safetensors")
    base.mkdir()
    save_file(case.named("weights/"), base / "model.safetensors")
    write_json(base / "config.json", config_of(model.spec))
    merge(open_component(base, "transformer"), [AdapterSpec(adapter)], out)
    return load_file(out)


def compare_merged(case: Case, sheet: Sheet, merged: dict[str, Tensor]) -> None:
    """Compare each folded tensor; any other must be as it was, to the bit."""
    told = case.named("output/merged/")
    for name, value in merged.items():
        if name in told:
            sheet.compare(f"merged/{name}", value)
        elif not value.equal(case.named("weights/")[name]):
            raise CaseError(f"{name} was changed by folding the adapter in, and should not be")


def check_scales(case: Case, fit: Fit) -> None:
    """Every scale must be what the file says: one for all modules, or one for each weight."""
    ours = {f"{change.module}.weight": change.part.scale for change in fit.changes}
    told = case.about.get("scales", dict.fromkeys(ours, case.about.get("scale")))
    near = ours.keys() == told.keys() and all(isclose(ours[k], told[k], rel_tol=1e-6) for k in ours)
    if not near:
        raise CaseError(f"the scales are {ours}, not {told}")
