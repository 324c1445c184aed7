"""torch, the cards it can compute on, and how this model's attention would run there."""

from __future__ import annotations

import re
import warnings
from importlib.util import find_spec
from operator import itemgetter
from pathlib import Path

import torch
from torch.backends import cuda
from torch.nn.attention import SDPBackend

from sakuga.commands.doctor.finding import Diagnoses, Diagnosis, green, red, yellow
from sakuga.commands.doctor.room import room
from sakuga.memory.attention import DRIVER, AttentionChoice, AttentionShape, driver
from sakuga.memory.device import DTYPES, LIBRARIES, choose_device, choose_dtype
from sakuga.model.attention import BACKENDS
from sakuga.model.fused.kernel import refusal
from sakuga.model.inventory import Inventory
from sakuga.model.spec import ModelSpec
from sakuga.printable import readable

PACKAGES = ("flash_attn", "xformers", "sageattention")
KERNELS = {
    SDPBackend.CUDNN_ATTENTION: "cuDNN", SDPBackend.FLASH_ATTENTION: "flash",
    SDPBackend.EFFICIENT_ATTENTION: "memory-efficient", SDPBackend.MATH: "math",
}  # fmt: skip
BUILD = "Install a build of torch for it: https://pytorch.org/get-started/locally"
PIN = 64 << 20  # bytes


def graphics(inventory: Inventory, device: str, dtype: str, cache: Path | None = None) -> Diagnoses:
    """torch itself, every card, attention, and whether a picture fits the one that is meant.

    cache: a folder that keeps measurements of attention between runs. Raises RequestError on a
    device or dtype that is not here.
    """
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")  # a driver that is too old is told as a warning
        here = torch.cuda.is_available()
    yield library()
    if not here and DRIVER.is_file():
        why = f" ({said[0].message})" if said else ""
        yield yellow("cards", f"NVIDIA's driver {driver()}, which torch cannot use{why}", BUILD)
    elif not here:
        yield green("cards", "none; drawings are computed on the CPU")
    for index in range(torch.cuda.device_count() if here else 0):
        yield card(index)
    where = choose_device(device)
    computes = choose_dtype(dtype, where)
    yield between_products(where)
    yield attention_kernels(inventory.spec, where, DTYPES[computes])
    if where.type == "cuda":
        yield attention_times(inventory.spec, where, DTYPES[computes], cache)
        free, _ = torch.cuda.mem_get_info(where)
        yield room(inventory, torch.cuda.get_device_name(where), free - LIBRARIES, computes)


def library() -> Diagnosis:
    """The version of torch and what it was built for."""
    built = "without CUDA"
    if torch.version.cuda:
        built = f"CUDA {torch.version.cuda}, cuDNN {torch.backends.cudnn.version()}"
        built += f", driver {driver()}" if DRIVER.is_file() else ""
    threads = f"{torch.get_num_threads()} threads, {torch.backends.cpu.get_cpu_capability()}"
    return green("torch", f"{torch.__version__}, {built}; {threads}")


def card(index: int) -> Diagnosis:
    """One card: its memory, what it computes in, whether torch has kernels for it."""
    where = torch.device("cuda", index)
    major, minor = torch.cuda.get_device_capability(where)
    name = f"cuda:{index}, {torch.cuda.get_device_name(where)}, compute capability {major}.{minor}"
    if not has_kernels(torch.cuda.get_arch_list(), major, minor):
        return red("cards", f"{name}: this torch has no kernels for it", BUILD)
    try:
        free, total = torch.cuda.mem_get_info(where)
        torch.empty(PIN, dtype=torch.uint8, pin_memory=True)
    except RuntimeError as error:
        said = str(error).splitlines()[0]
        return red("cards", f"{name}: {said}", "Close what else uses the card; restart its driver.")
    text = f"{name}: {readable(free)} of {readable(total)} free"
    if major < 8:
        fix = "Draw with --dtype float16: only the transformer runs in it, the rest in float32."
        return yellow("cards", f"{text}; no bfloat16, so float32 is the default", fix)
    return green("cards", f"{text}; computes in bfloat16; pinning works")


def has_kernels(built: list[str], major: int, minor: int) -> bool:
    """Whether a build for `built`, as ["sm_80", "compute_90"], runs on a card.

    Machine code of a generation runs on its later members; intermediate code on all later
    cards. Source: CUDA C++ Programming Guide, "Application Compatibility".
    """
    for one in built:
        kind, _, number = one.partition("_")
        digits = re.match(r"\d+", number)
        if digits is None:
            continue
        theirs = divmod(int(digits[0]), 10)
        if kind == "compute" and theirs <= (major, minor):
            return True
        if kind == "sm" and theirs[0] == major and theirs[1] <= minor:
            return True
    return not built


def between_products(where: torch.device) -> Diagnosis:
    """What computes norms, rotations, gates and sums: kernels of their own, or torch one by one."""
    if where.type != "cuda":
        return green("kernels", "torch's own operations, as on every CPU")
    why = refusal(where.index or 0)
    if not why:
        return green("kernels", "Triton's, compiled when they are first needed, then kept on disk")
    text = f"torch's own operations, which take a third longer: {why}"
    return yellow("kernels", text, "Install triton beside torch, on a card of NVIDIA since 2020.")


def attention_times(
    spec: ModelSpec, where: torch.device, dtype: torch.dtype, cache: Path | None
) -> Diagnosis:
    """What every back-end takes for a picture of the usual size under both texts."""
    shape = AttentionShape.of(spec.transformer, (tokens_of(spec),) * 2, dtype)
    times = AttentionChoice(cache=cache).times(where, shape)
    if not times:
        return green("attention", f"no choice for {shape}: torch's own")
    rows = sorted(times.items(), key=itemgetter(1))
    table = ", ".join(f"{BACKENDS[name].title} ({name}) {ms:.2f} ms" for name, ms in rows)
    others = {one.name: one.refusal(where, dtype) for one in BACKENDS.values()}
    absent = "".join(f"; not {name}: {why}" for name, why in others.items() if why)
    return green("attention", f"measured for {shape}, the first is used: {table}{absent}")


def tokens_of(spec: ModelSpec) -> int:
    """Tokens of a picture of the usual size and the longest text."""
    down = spec.vae.downscale * spec.transformer.patch_size
    image = (spec.drawing.width // down) * (spec.drawing.height // down)
    return image + spec.gemma.trained_tokens


def attention_kernels(spec: ModelSpec, where: torch.device, dtype: torch.dtype) -> Diagnosis:
    """The kernel that torch takes for the transformer's shapes, and why not another."""
    part, tokens = spec.transformer, tokens_of(spec)
    heads, kept = part.n_heads, part.n_kv_heads
    if where.type == "cuda" and dtype == torch.float32:
        kept = heads  # as model.attention does: no fused float32 kernel takes grouped heads
    query, key = (
        torch.empty(1, count, tokens, part.head_dim, dtype=dtype, device=where)
        for count in (heads, kept)
    )
    chosen = SDPBackend(torch._fused_sdp_choice(query, key, key, enable_gqa=heads != kept))
    shape = (
        f"{heads} heads of {part.head_dim}, {kept} for keys, {tokens} tokens, "
        f"{str(dtype).removeprefix('torch.')} on {where}"
    )
    text = f"torch's {KERNELS.get(chosen, chosen.name)} kernel for {shape}"
    if where.type == "cuda":
        asked = cuda.SDPAParams(query, key, key, None, 0.0, False, heads != kept)
        able, not_able = _fused(asked, dtype, grouped=heads != kept)
        text += f": the first in torch's own order of {', '.join((*able, 'math'))}"
        text += "".join(f"; not {name}: {why}" for name, why in not_able.items())
    present = [name for name in PACKAGES if find_spec(name)]
    text += f"; {', '.join(present)} installed, not needed" if present else ""
    if where.type == "cuda" and chosen == SDPBackend.MATH:
        fix = "Use bfloat16 or float16, or a newer torch: this kernel holds all scores at once."
        return yellow("attention", text, fix)
    return green("attention", text)


def _fused(
    asked: cuda.SDPAParams, dtype: torch.dtype, *, grouped: bool
) -> tuple[tuple[str, ...], dict[str, str]]:
    """The fused kernels of a card that can do what is asked, and why the others cannot."""
    tests = {
        "cuDNN": cuda.can_use_cudnn_attention,
        "flash": cuda.can_use_flash_attention,
        "memory-efficient": cuda.can_use_efficient_attention,
    }
    able = tuple(name for name, test in tests.items() if test(asked))
    known: dict[str, str] = {}
    if dtype == torch.float32:
        known |= {"cuDNN": "it computes in 16 bits alone", "flash": "it computes in 16 bits alone"}
    if grouped:
        known |= {"memory-efficient": "it takes no grouped heads"}
    others = [name for name in tests if name not in able]
    return able, {name: known.get(name, "this card or these shapes") for name in others}
