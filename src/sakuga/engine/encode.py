"""Run a text encoder over token ids: the body of the stages that read texts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from sakuga.api.receipt import StagePlan
from sakuga.engine.networks import Networks
from sakuga.engine.run import Events, Run
from sakuga.engine.runner import check_finite
from sakuga.memory.device import Device
from sakuga.memory.stages import Stage
from sakuga.model.text import GemmaEncoder, JinaEncoder

# Looked up on the host, or passed through the device layer by layer.
NOT_LENT = frozenset({"embed_tokens", "word_embeddings", "layers"})


@dataclass(frozen=True, slots=True)
class Inputs:
    """An encoder, the texts it reads, (1, L) each, and how many of its layers stay."""

    run: Run
    stage: Stage
    encoder: GemmaEncoder | JinaEncoder
    ids: list[Tensor]
    resident: int


def prepare(
    networks: Networks, run: Run, stage: Stage, texts: Sequence[tuple[int, ...]], how: StagePlan
) -> Inputs:
    """On the host: the network as planned, and what it reads."""
    encoder = networks.of(stage, how.weights, how.dtype)
    return Inputs(run, stage, encoder, [torch.tensor([one]) for one in texts], how.resident)


def encode(inputs: Inputs, device: Device) -> Events[list[Tensor]]:
    """Features of each text, on the host; each unpadded, so that none depends on another."""
    encoder = inputs.encoder
    with (
        device.lend(encoder.model, NOT_LENT),
        device.stream(list(encoder.model.layers), inputs.resident) as layers,
    ):
        features = [one[0] for one in encoder.encode(inputs.ids, layers, device.where)]
    check_finite(inputs.run, inputs.stage.name, *features)
    yield from ()  # nothing happens meanwhile
    return [device.to_host(one) for one in features]
