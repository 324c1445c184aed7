"""What readers of other people find in 200 pictures of ours: every field, or the whole text."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path

from receipts import RECEIPT, asking
from sakuga.api.parameters import write_infotext
from sakuga.api.receipt import AdapterRecord, Receipt
from sakuga.api.said import texts_of
from sakuga.files.png import Picture, encode_png
from wild.files import Row

EXAMPLES = Path(__file__).parents[2] / "examples"
PLAIN = (
    "1girl, blue_hair, smile", "masterpiece,\nBREAK\n1girl", "a girl (standing:1.2)\n\nin the rain",
    "aris_\\(blue archive\\), halo", 'she says "hi", it\'s', "<n>rin</n>\n<pose>sitting</pose>", "",
)  # fmt: skip
FOREIGN = (
    "青い髪、笑顔", "初音ミク, 1girl\n花畑", "蓝发，双马尾\n微笑", "café, é", "😀🏳️\u200d🌈, 1girl",
)  # fmt: skip
HOSTILE = (
    "Steps: 99, Sampler: x, Seed: 1",
    "cat\nSteps: 99, Sampler: x, Seed: 1, CFG scale: 1, Size: 1x1",
    "1girl, Negative prompt: x", "a\nNegative prompt: b\nNegative prompt: c", "Negative prompt:",
    "x\x1b[2Jy\x00z\x85\u2028w", "a\r\nb\rc", "back\\slash\\", "Steps\\: 1", "  spaces  \n",
    "Hashes: {\"a\": 1}", "Model: other, Version: v1", "<lora:none:1>", "{", "\n\n",
)  # fmt: skip
NEGATIVES = ("", "lowres, bad hands", "lowres\nbad hands", "Steps: 3\nNegative prompt: x", "低画質")
LORAS = (
    (),
    (AdapterRecord("my style.safetensors", "ab" * 32, 0.8),),
    (AdapterRecord("Seed.safetensors", "cd" * 32, -1.0), AdapterRecord("Steps.pt", "ef" * 32, 1.0)),
)


@dataclass(frozen=True, slots=True)
class Case:
    """A picture in a file: the text in it, and its fields as a reader should give them."""

    path: Path
    text: str
    fields: Mapping[str, str]


def compare(folder: Path) -> list[Row]:
    """A row for each reader: fields right of those it can read, and errors."""
    cases = list(write(folder / "pictures"))
    readers: Mapping[str, Callable[[Sequence[Case], Path], list[object]]] = {
        "sd-parsers": sd_parsers, "sd-prompt-reader": sd_prompt_reader, "exiftool": exiftool,
        "exifreader": exifreader, "exifr": exifr,
    }  # fmt: skip
    return [_row(name, cases, read(cases, folder)) for name, read in readers.items()]


def write(folder: Path) -> Iterator[Case]:
    """200 pictures: as people write prompts, in other scripts, with adapters, and hostile."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    files = [file.read_text("utf-8") for file in sorted(EXAMPLES.glob("*.*"))]
    asked = product(LORAS, NEGATIVES, (*PLAIN, *FOREIGN, *HOSTILE, *files))
    every = list(asked)
    chosen = [every[place * len(every) // 200] for place in range(200)]
    for number, (loras, negative, prompt) in enumerate(chosen):
        receipt = replace(asking(prompt, negative), adapters=loras, seed=number, index=0)
        path = folder / f"{number}.png"
        path.write_bytes(encode_png(Picture(1, 1, b"abc"), texts_of(receipt)))
        yield Case(path, write_infotext(receipt), dict(fields_of(receipt)))


def fields_of(receipt: Receipt) -> Iterator[tuple[str, str]]:
    """What stands in the text, field by field; readers trim."""
    *lines, _ = write_infotext(receipt).split("\n")
    prompt, _, negative = "\n".join(lines).partition("\nNegative prompt: ")
    yield from (("prompt", prompt.strip()), ("negative", negative.strip()))
    yield from (("steps", "16"), ("sampler", "Euler"), ("cfg", "3.0"), ("size", "256x256"))
    yield from (("seed", str(receipt.seed)), ("model", RECEIPT.model))


def sd_parsers(cases: Sequence[Case], folder: Path) -> list[object]:
    """The fields that sd-parsers 0.6 gives."""
    from sd_parsers import ParserManager  # type: ignore[import-not-found]

    def read(case: Case) -> Mapping[str, str]:
        info = ParserManager().parse(case.path)
        (sampler,) = info.samplers
        given = sampler.parameters
        return {
            "prompt": "".join(one.value for one in sampler.prompts),
            "negative": "".join(one.value for one in sampler.negative_prompts),
            "steps": given["steps"], "cfg": given["cfg_scale"], "seed": given["seed"],
            "sampler": sampler.name, "model": sampler.model.name, "size": info.metadata["Size"],
        }  # fmt: skip

    return [_tried(read, case) for case in cases]


def sd_prompt_reader(cases: Sequence[Case], folder: Path) -> list[object]:
    """The fields that sd-prompt-reader 1.3.5 gives."""
    from sd_prompt_reader.image_data_reader import (  # type: ignore[import-not-found]
        ImageDataReader,
    )

    def read(case: Case) -> Mapping[str, str]:
        found = ImageDataReader(case.path)
        return {"prompt": found.positive, "negative": found.negative, **found.parameter}

    return [_tried(read, case) for case in cases]


def exiftool(cases: Sequence[Case], folder: Path) -> list[object]:
    """The text that exiftool gives."""
    command = ["exiftool"]
    if shutil.which("exiftool") is None:
        root = folder / "exiftool" / "usr"
        command = ["perl", f"-I{root}/share/perl5", f"{root}/bin/exiftool"]
    paths = [str(case.path) for case in cases]
    told = json.loads(_said([*command, "-j", "-Parameters", *paths]))
    return [one.get("Parameters") for one in told]


def exifreader(cases: Sequence[Case], folder: Path) -> list[object]:
    """The text that npm's exifreader gives."""
    return _by_node(cases, folder, "const t = require('exifreader').load(data).parameters;"
                                   "return t && t.value")  # fmt: skip


def exifr(cases: Sequence[Case], folder: Path) -> list[object]:
    """The text that npm's exifr gives."""
    script = "const t = await require('exifr').parse(data, true); return t && t.parameters"
    return _by_node(cases, folder, script)


def _by_node(cases: Sequence[Case], folder: Path, body: str) -> list[object]:
    paths = json.dumps([str(case.path.resolve()) for case in cases])
    script = f"""
        const fs = require('fs');
        const read = async (data) => {{ {body} }};
        (async () => {{
            const told = [];
            for (const path of {paths}) {{
                try {{ told.push((await read(fs.readFileSync(path))) ?? null); }}
                catch (error) {{ told.push({{error: String(error)}}); }}
            }}
            console.log(JSON.stringify(told));
        }})();
    """
    return list(json.loads(_said(["node", "-e", script], cwd=folder)))


def _said(command: Sequence[str], cwd: Path | None = None) -> str:
    return subprocess.run(command, cwd=cwd, check=True, capture_output=True, text=True).stdout


def _tried(read: Callable[[Case], object], case: Case) -> object:
    try:
        return read(case)
    except Exception as error:  # what a reader raises is a figure
        return {"error": repr(error)}


def _row(name: str, cases: Sequence[Case], found: Sequence[object]) -> Row:
    """Of texts: equal to what was written. Of fields: each one. exifr reads ASCII in tEXt only."""
    errors = [one for one in found if isinstance(one, dict) and "error" in one]
    wrong, right, unseen = [], 0, 0
    for case, one in zip(cases, found, strict=True):
        if isinstance(one, dict) and "error" not in one:
            told = {key: str(one.get(key)) for key in case.fields}
            wrong += [(key, case.path.name, told[key]) for key, value in case.fields.items()
                      if told[key] != value]  # fmt: skip
            right += sum(told[key] == value for key, value in case.fields.items())
        elif name == "exifr" and not case.text.isascii():
            unseen += 1
        elif one == case.text:
            right += 1
        else:
            wrong.append(("text", case.path.name, str(one)))
    beside = f", {unseen} texts are none it can read" if unseen else ""
    first = f"; first wrong {wrong[0]!r:.200}" if wrong else ""
    first += f"; first error {errors[0]!r:.200}" if errors else ""
    about = f"{len(cases)} pictures, {right} right, {len(wrong)} wrong, {len(errors)} errors"
    return Row(f"parameters by {name}", about + beside + first, not wrong and not errors)
