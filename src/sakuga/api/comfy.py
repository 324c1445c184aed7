"""ComfyUI's graphs: the prompt, the negative and the settings of a drawing, as far as one tells.

A graph is followed from a sampler against its links. Nodes are known by the names of their inputs,
not by their types, for there are thousands of types; nothing in a graph is trusted.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from sakuga.api.infotext import Infotext

MAX_NODES = 5_000
MAX_SAMPLERS = 8
SIDES = ("positive", "negative")
SAMPLER_INPUTS = frozenset(
    ("steps", "sampler_name", "sampler", "cfg", "seed", "noise_seed", "noise", "sigmas")
)
# Inputs that hold a prompt, the commonest first; and those that lead away from one.
TEXTS = (
    "text", "prompt", "user_prompt", "text_g", "text_l", "clip_l", "t5xxl", "caption", "string",
    "value", "populated_text", "text1", "text2", "string_a", "string_b", "text_a", "text_b",
)  # fmt: skip
AWAY = frozenset(
    ("clip", "model", "vae", "clip_vision", "image", "pixels", "control_net", "latent_image")
)
# What a drawing is told by, and the inputs that tell it.
SETTINGS: Mapping[str, tuple[str, ...]] = {
    "Steps": ("steps",),
    "Sampler": ("sampler_name",),
    "Schedule type": ("scheduler",),
    "CFG scale": ("cfg", "guidance"),
    "Seed": ("seed", "noise_seed"),
    "Model": ("unet_name", "ckpt_name", "model_name"),
}
# Workflows keep the values of a node without their names.
WIDGETS: Mapping[str, tuple[str, ...]] = {
    "KSampler": ("seed", "", "steps", "cfg", "sampler_name", "scheduler", "denoise"),
    "KSamplerAdvanced": (
        "", "noise_seed", "", "steps", "cfg", "sampler_name", "scheduler",
    ),
    "KSamplerSelect": ("sampler_name",),
    "BasicScheduler": ("scheduler", "steps", "denoise"),
    "RandomNoise": ("noise_seed",),
    "CFGGuider": ("cfg",),
    "SamplerCustom": ("", "noise_seed", "", "cfg"),
    "CLIPTextEncode": ("text",),
    "EmptyLatentImage": ("width", "height"),
    "EmptySD3LatentImage": ("width", "height"),
    "CheckpointLoaderSimple": ("ckpt_name",),
    "UNETLoader": ("unet_name",),
    "LoraLoader": ("lora_name", "strength_model"),
    "LoraLoaderModelOnly": ("lora_name", "strength_model"),
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Node:
    """A node of a graph: its type, and its inputs by name; a link is [node, output]."""

    kind: str
    inputs: Mapping[str, Any]

    @property
    def is_sampler(self) -> bool:
        """Whether it draws: it takes a prompt, or what guides by one, and says how."""
        led = {"positive", "guider", "cond", "conditioning"} & self.inputs.keys()
        return bool(led) and len(SAMPLER_INPUTS & self.inputs.keys()) >= 2


Graph = Mapping[str, Node]


def read_graph(form: Mapping[str, Any]) -> Infotext | None:
    """The drawing of an API graph, as ComfyUI keeps it under `prompt`; None if it has none."""
    graph = {}
    for key, node in list(form.items())[:MAX_NODES]:
        if isinstance(node, dict) and isinstance(node.get("inputs"), dict):
            graph[str(key)] = Node(str(node.get("class_type")), node["inputs"])
    return _drawing(graph)


def read_workflow(form: Mapping[str, Any]) -> Infotext | None:
    """The drawing of a graph as it is on the screen, under `workflow`; None if it has none."""
    sources = {}
    for link in _list(form, "links")[: 4 * MAX_NODES]:
        if isinstance(link, list) and len(link) >= 3 and _is_name(link[0]):
            sources[str(link[0])] = [link[1], link[2]]
    graph = {}
    for node in _list(form, "nodes")[:MAX_NODES]:
        if isinstance(node, dict) and _is_name(node.get("id")):
            kind = str(node.get("type"))
            inputs = dict(_widgets(kind, node.get("widgets_values")))
            for one in _list(node, "inputs"):
                if isinstance(one, dict) and str(one.get("link")) in sources:
                    inputs[str(one.get("name"))] = sources[str(one["link"])]
            graph[str(node["id"])] = Node(kind, inputs)
    return _drawing(graph)


def _widgets(kind: str, values: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(values, dict):
        yield from ((str(name), value) for name, value in values.items())
    elif isinstance(values, list):
        names = WIDGETS.get(kind, ("text",) if "Text" in kind or "Prompt" in kind else ())
        yield from ((name, value) for name, value in zip(names, values, strict=False) if name)


def _drawing(graph: Graph) -> Infotext | None:
    sampler = _first_pass(graph)
    if sampler is None:
        return None
    texts = {side: _text(graph, sampler, side) for side in SIDES}
    behind = list(_upstream(graph, sampler, lambda name: name not in SIDES))
    settings = {
        key: value for key, names in SETTINGS.items() if (value := _nearest(graph, behind, names))
    }
    for node in behind:
        sides = [_scalar(graph, node.inputs.get(name)) for name in ("width", "height")]
        if all(sides):
            settings["Size"] = "x".join(sides)
            break
    loras = tuple(
        f"{name}:{_scalar(graph, node.inputs.get('strength_model')) or 1}"
        for node in behind
        if (name := _scalar(graph, node.inputs.get("lora_name")))
    )
    return Infotext(texts["positive"], texts["negative"], settings, loras)


def _first_pass(graph: Graph) -> str | None:
    """The sampler that starts from noise: no other is behind it."""
    samplers = [key for key, node in graph.items() if node.is_sampler][:MAX_SAMPLERS]
    for key in samplers:
        behind = _upstream(graph, key, lambda name: name not in SIDES)
        if not any(node.is_sampler for node in list(behind)[1:]):
            return key
    return samplers[0] if samplers else None


def _text(graph: Graph, sampler: str, side: str) -> str:
    """The texts that lead to one side of a sampler, a line each."""
    other = SIDES[side == SIDES[0]]
    led = (side, "cond", "conditioning") if side == SIDES[0] else (side,)
    guider = _source(graph, graph[sampler].inputs.get("guider"))
    begins = [graph[key] for key in (sampler, guider) if key is not None]
    found: dict[str, None] = {}
    ways = deque(
        key for node in begins for name in led if (key := _source(graph, node.inputs.get(name)))
    )
    seen = set(ways)
    while ways:
        node = graph[ways.popleft()]
        if "ZeroOut" in node.kind:
            continue
        names = (side, *TEXTS) if isinstance(node.inputs.get(side), str) else TEXTS
        told = [text for name in names if isinstance(text := node.inputs.get(name), str)]
        for text in filter(None, map(str.strip, told[:1] if names[0] == side else told)):
            found[text] = None
        if told:
            continue
        splits = isinstance(node.inputs.get(side), list)
        for name, value in node.inputs.items():
            aside = name in AWAY or name == other or (splits and name != side)
            key = None if aside else _source(graph, value)
            if key is not None and key not in seen and not graph[key].is_sampler:
                seen.add(key)
                ways.append(key)
    return "\n".join(found)


def _upstream(graph: Graph, start: str, wanted: Callable[[str], bool]) -> Iterator[Node]:
    """A node and all that is behind its wanted inputs, the nearest first, each once."""
    ways, seen = deque([start]), {start}
    while ways:
        node = graph[ways.popleft()]
        yield node
        for name, value in node.inputs.items():
            key = _source(graph, value) if wanted(name) else None
            if key is not None and key not in seen:
                seen.add(key)
                ways.append(key)


def _nearest(graph: Graph, nodes: list[Node], names: tuple[str, ...]) -> str:
    for node in nodes:
        for name in names:
            if found := _scalar(graph, node.inputs.get(name)):
                return found
    return ""


def _scalar(graph: Graph, value: Any) -> str:
    """A number or a name; of a link, what the node behind it holds. Empty for anything else."""
    for _ in range(8):
        key = _source(graph, value)
        if key is None:
            break
        inputs = graph[key].inputs
        value = next((inputs[name] for name in ("value", "seed", "int", "float", "string")
                      if name in inputs), None)  # fmt: skip
    fits = isinstance(value, (str, int, float)) and not isinstance(value, bool)
    return str(value).strip() if fits else ""


def _source(graph: Graph, value: Any) -> str | None:
    """The node that a link comes from, if there is one."""
    if isinstance(value, list) and len(value) == 2 and _is_name(value[0]):
        return str(value[0]) if str(value[0]) in graph else None
    return None


def _is_name(value: Any) -> bool:
    return isinstance(value, (str, int)) and not isinstance(value, bool)


def _list(form: Mapping[str, Any], name: str) -> list[Any]:
    value = form.get(name)
    return value if isinstance(value, list) else []
