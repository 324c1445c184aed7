"""A layout as data: rules that say how one kind of file names the tensors of a component.

Our own names, on the right of each rule, are the state dict of the module that computes: the
original's names for NextDiT, transformers' for the encoders, diffusers' for the autoencoder.
A rule computes nothing but rows: one tensor split, or several joined, along their first
dimension, or seen with other dimensions of 1. There are two exceptions: a number added to
every value, and baking: a weight that comes with an adapter of its own (see `BakedAdapter`) is
read as their sum. Names and shapes are all that is looked at; file names and configs play
no part. Every rule reads in both directions.

Placeholders in patterns: {n} and {m} are numbers, {up} is a number that the other side
counts from the other end, {p} is weight or bias, and the words of WORDS below stand for one
of a few names. `*` in a drop stands for anything.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

WRAPPERS = ("model.", "state_dict.", "module.")
# Where ComfyUI keeps each component in a file that holds all of a model.
ALL_IN_ONE: Mapping[str, tuple[str, ...]] = {
    "transformer": ("model.diffusion_model.",),
    "text_encoder": (
        "text_encoders.gemma2_2b.transformer.model.",
        "text_encoders.gemma.gemma3_4b.transformer.model.",
    ),
    "text_encoder_2": (
        "text_encoders.jina.jina_clip_2.transformer.model.",
        "text_encoders.jina.jina_clip_2.transformer.",
    ),
    "vae": ("vae.", "first_stage_model."),
}

NUMBER = r"0|[1-9][0-9]{0,5}"

WORDS = {
    "n": NUMBER,
    "m": NUMBER,
    "up": NUMBER,
    "p": r"weight|bias",
    "refined": r"noise_refiner|layers",
    "stack": r"noise_refiner|context_refiner|layers",
    "w": r"w1|w2|w3",
    "side": r"encoder|decoder",
    "blocks": r"down_blocks|up_blocks",
    "scale": r"downsamplers|upsamplers",
    "resnet": r"norm1|conv1|norm2|conv2|conv_shortcut",
    "inner": r"norm1|conv1|norm2|conv2",
    "qkv": r"q|k|v",
    "attn": r"group_norm|to_q|to_k|to_v|to_out\.0",
    "end": r"conv_in|conv_norm_out|conv_out",
}


@dataclass(frozen=True, slots=True)
class Rule:
    """Tensors of the file that are tensors of ours: 1 to 1, 1 split to n, or n joined to 1.

    `ones`: how many dimensions of 1 theirs have at their end and ours lack, as a 1x1
    convolution has beside a linear; negative the other way round. `shift`: what is added to
    their values to give ours.
    """

    theirs: tuple[str, ...]
    ours: tuple[str, ...]
    ones: int = 0
    shift: float = 0.0

    @property
    def inverse(self) -> Rule:
        """The same fact, read the other way."""
        return Rule(self.ours, self.theirs, -self.ones, -self.shift)


@dataclass(frozen=True, slots=True)
class Drop:
    """Tensors a file may hold and our model may lack, and why that is right.

    `pattern` is of the file's full names. Where `spare`, it is of our names instead, for
    tensors that a rule knows and some models do without; {beyond} is then the number of
    the layer just after the model's last.
    """

    pattern: str
    reason: str
    spare: bool = False


@dataclass(frozen=True, slots=True)
class KeyLayout:
    """One spelling of one component. `marks` are the keys that give it away.

    `provisional`: names that no published file confirms. They are written as they stand here,
    and read under any name, by shape. `baked`: whether weights may come with adapters.
    """

    name: str
    component: str
    marks: tuple[str, ...]
    rules: tuple[Rule, ...]
    prefixes: tuple[str, ...] = ("",)
    drops: tuple[Drop, ...] = ()
    provisional: tuple[str, ...] = ()
    baked: bool = False

    @property
    def inverse(self) -> KeyLayout:
        """The layout that spells our tensors as this one's files do. Drops carry nothing back."""
        return replace(self, rules=tuple(rule.inverse for rule in self.rules), drops=())


def same(*patterns: str) -> tuple[Rule, ...]:
    """Rules for names that the file and we share."""
    return tuple(Rule((pattern,), (pattern,)) for pattern in patterns)


def renamed(pairs: Mapping[str, str], ones: int = 0) -> tuple[Rule, ...]:
    """Rules for tensors that only their names tell apart, by their names in the file."""
    return tuple(Rule((theirs,), (ours,), ones) for theirs, ours in pairs.items())


def wrapped(*prefixes: str) -> tuple[str, ...]:
    """The prefixes, also as they are where a file keeps all under another name."""
    return tuple(dict.fromkeys(first + prefix for first in ("", *WRAPPERS) for prefix in prefixes))
