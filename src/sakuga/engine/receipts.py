"""The receipt of a picture that has just been drawn."""

from __future__ import annotations

from dataclasses import replace
from importlib.metadata import version

import torch

from sakuga.api.receipt import Plan, Receipt
from sakuga.engine.run import Run
from sakuga.sample.solvers import SOLVERS


def receipt_of(run: Run, index: int, model: str, plan: Plan) -> Receipt:
    """How picture `index` of a request was made. plan: as it was run."""
    request = run.request
    return Receipt(
        model=model,
        # Where adapters lie is nobody's business; `adapters` says which files they are.
        request=replace(request, lora=(), lora_partial=False),
        index=index,
        seed=request.seed + index,
        texts=run.texts.sent,
        tokens=run.texts.counts,
        solver=f"{request.solver}: {SOLVERS[request.solver].source}",
        guidance=request.formula,
        plan=plan,
        weights=run.weights,
        versions={"sakuga": version("sakuga"), "torch": torch.__version__},
        notes=tuple(run.notes),
        adapters=run.adapters,
    )
