"""What other programs call what is here: their flags and values, and what to write instead.

Seen in A1111, ComfyUI, diffusers, InvokeAI and stable-diffusion.cpp.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping

SAMPLERS = "Ancestral, SDE and DPM++ samplers are not here; euler, heun2 and res_multistep are."
NO_CONTROL = "No picture steers a drawing here; --image starts from one."
FAST_ANYWAY = "Attention is torch's own, the fastest that the device has; nothing is to be asked."
VRAM = ("--vram",)

# Each answer is the flags that do it, of which a command may have one, or a sentence.
FLAGS: Mapping[tuple[str, ...], tuple[str, ...] | str] = {
    ("cfg", "cfg-scale", "guidance-scale", "scale", "cfgscale", "txt-cfg"): ("--guidance",),
    ("cfg-normalization", "cfg-normalisation", "normalization"): ("--normalisation",),
    ("cfg-rescale", "guidance-rescale", "rescale-cfg", "cfg-renorm"): ("--renorm",),
    ("cfg-trunc", "cfg-truncation", "cfg-trunc-ratio"): ("--truncation",),
    ("sampler", "sampler-name", "sampling-method", "sample-method", "method"): ("--solver",),
    ("scheduler",): ("--solver", "--schedule"),
    ("schedule-type", "sigmas"): ("--schedule",),
    (
        "batch-size", "batch-count", "batch", "b", "n-iter", "n-samples", "count", "num-images",
        "num-images-per-prompt", "num-outputs", "images",
    ): ("--number", "--batch"),
    (
        "num-inference-steps", "inference-steps", "sample-steps", "sampling-steps", "num-steps",
        "ddim-steps", "step",
    ): ("--steps",),
    ("flow-shift", "time-shift", "timestep-shift", "discrete-flow-shift"): ("--shift",),
    ("negative-prompt", "neg-prompt", "neg", "n-prompt", "uncond-prompt"): ("--negative",),
    ("prompt", "p", "positive", "positive-prompt", "text"):
        'The prompt is the first argument, without a flag: sakuga draw "1girl, smile".',
    ("system-prompt",): ("--system",),
    ("max-sequence-length", "max-length"): ("--max-tokens",),
    ("w",): ("--width", "--size"),
    ("h", "width", "height", "res", "resolution", "dimensions", "ar", "aspect-ratio"): ("--size",),
    ("s", "random-seed", "noise-seed", "manual-seed"): ("--seed",),
    (
        "m", "model-path", "model-id", "model-name", "ckpt", "ckpt-path", "checkpoint",
        "pretrained-model-name-or-path", "base-model",
    ): ("--model",),
    ("diffusion-model", "unet", "dit", "transformer-path"): ("--transformer",),
    ("vae-path", "ae"): ("--vae",),
    ("text-encoder", "te", "llm", "qwen", "gemma3", "text-encoder-path"): ("--gemma",),
    ("clip", "clip-l", "clip-path", "text-encoder-2"): ("--jina",),
    ("lora-path", "lora-file", "lora-weights", "loras", "adapter", "lora-dir", "lora-model-dir"):
        ("--lora",),
    ("o", "output", "outdir", "out-dir", "output-dir", "output-path", "save-path"): ("--out",),
    ("overwrite", "yes", "y", "f"): ("--force",),
    ("t", "num-threads"): ("--threads",),
    ("precision", "torch-dtype", "type", "fp16", "bf16", "half", "fp32", "full-precision"):
        ("--dtype",),
    ("quant", "quantize", "quantization", "load-in-8bit", "load-in-4bit", "fp8"): ("--weights",),
    (
        "budget", "memory", "memory-limit",
        "lowvram", "low-vram", "medvram", "med-vram", "novram", "max-vram", "vram-limit",
        "offload", "offload-to-cpu", "cpu-offload", "enable-model-cpu-offload",
        "sequential-cpu-offload", "enable-sequential-cpu-offload", "vae-tiling",
    ): VRAM,
    ("highvram", "high-vram", "gpu-only"): ("--keep-resident",),
    ("cpu", "use-cpu", "gpu", "cuda", "gpu-id", "device-id"): ("--device",),
    ("xformers", "flash-attn", "fa", "sdpa", "opt-sdp-attention", "diffusion-fa"): FAST_ANYWAY,
    ("i", "init-img", "init-image", "input-image", "img2img", "source-image"): ("--image",),
    ("denoising-strength", "denoise", "denoising", "img2img-strength"): ("--strength",),
    ("mask-image", "mask-img", "inpaint-mask", "inpaint"): ("--mask",),
    ("invert-mask", "inpainting-mask-invert"): ("--mask-invert",),
    ("mask-blur", "blur-mask", "mask-feather-radius"): ("--mask-feather",),
    ("grow-mask", "grow-mask-by", "mask-dilate"): ("--mask-grow",),
    ("inpaint-full-res", "masked-only", "crop-mask"): ("--only-masked",),
    ("inpaint-full-res-padding", "padding-mask-crop"): ("--mask-padding",),
    ("outpainting", "extend", "expand"): ("--outpaint",),
    ("control-net", "controlnet", "control-image"): NO_CONTROL,
    ("clip-skip",): "Both encoders are read as in training; no layer of theirs can be skipped.",
    ("hires-fix", "upscale", "hr-scale"): "No picture is enlarged here; ask for the --size itself.",
    ("eta",): SAMPLERS,
}  # fmt: skip

# By a pattern of what was given: ours, where that is known there; else a sentence.
VALUES: tuple[tuple[str, str, str], ...] = (
    (r"bf16|half-bf16|torch\.bfloat16|bf", "bfloat16", ""),
    (r"fp16|f16|half|torch\.float16", "float16", ""),
    (r"fp32|f32|float|full|single|torch\.float32|fp64|float64", "float32", ""),
    (r"(fp8|float8|f8)(_?e4m3(fn)?)?|torch\.float8_e4m3fn", "float8_e4m3",
     "Weights are kept in 8 bits by --weights float8_e4m3."),
    (r"(fp8|float8|f8)_?e5m2", "float8_e4m3",
     "Weights are kept in 8 bits by --weights float8_e4m3."),
    (r"int8|8bit|8-bit|q8|q8_0|8", "int8", "Weights are kept in 8 bits by --weights int8."),
    (r"int4|4bit|4-bit|q4(_\w+)?|nf4|fp4|4", "int4",
     "Weights are kept in 4 bits by --weights int4."),
    (r"heun|heun_?pp2", "heun2", ""),
    (r"(k_)?euler|(flow_?match_?)?euler_?discrete|flow_?euler|simple", "euler", ""),
    (r"rk2|midpoint2", "midpoint", ""),
    (r"res_(2|3)[sm]|res_multistep_\w+", "res_multistep", SAMPLERS),
    (r".*(dpmpp|dpm\+\+|ancestral|euler_?a\b|sde|unipc|uni_pc|ddim|ddpm|lcm|plms|lms|ipndm|deis).*",
     "", SAMPLERS),
    (r"karras|exponential|beta|normal|sgm_uniform|ddim_uniform|kl_optimal", "shifted",
     "Noise schedules of other models are not here; --schedule shifted is this one's."),
)  # fmt: skip


def named_elsewhere(flag: str, flags: Collection[str]) -> str | None:
    """What to write instead of another program's flag, for a command that has `flags`, or None."""
    name = flag.lstrip("-").lower().replace("_", "-")
    for names, answer in FLAGS.items():
        if name not in names:
            continue
        if isinstance(answer, str):
            return answer
        if ours := [one for one in answer if one in flags]:
            return f"Here it is {' or '.join(ours)}."
    return None


def keyword_elsewhere(name: str, ours: Collection[str]) -> str | None:
    """What to write instead of another program's keyword, for a call that takes `ours`, or None."""
    flags = {f"--{one.replace('_', '-')}": one for one in ours}
    answer = named_elsewhere(name, flags)
    for flag, one in flags.items() if answer else ():
        answer = re.sub(rf"{flag}(?![\w-])", f"{one}=", str(answer))
    return answer


def meant(value: str, known: Collection[str]) -> str | None:
    """What to write instead of another program's name for a value, as a sentence, or None.

    known: what may be given here.
    """
    name = value.strip().lower().replace(" ", "_")
    for pattern, ours, sentence in VALUES:
        if re.fullmatch(pattern, name):
            if ours in known:
                return f"Did you mean {ours!r}?"
            return None if "keep" in known else sentence or None  # a file has no flags
    return None
