#!/bin/sh
# sd-parsers 0.6 (with Pillow 13.0.0) reads A1111's `parameters` text of a PNG, and raises
# ValueError where the words "Negative prompt:" stand twice in it: once as the heading, and once
# within a line of the prompt, where A1111 writes what its user typed. A good engineer would guess
# that the heading counts only at the start of a line, as A1111 itself reads it.
#
# Seen: ValueError: too many values to unpack (expected 2); and of the same picture without the
# words in its prompt, all fields.
#
# So sakuga breaks the words up wherever a prompt holds them, and joins them when it reads.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/v"
"$folder/v/bin/pip" install --quiet --disable-pip-version-check sd-parsers==0.6 pillow==13.0.0
"$folder/v/bin/python" - "$folder" <<'PY'
import sys
from pathlib import Path

from PIL import Image
from PIL.PngImagePlugin import PngInfo
from sd_parsers import ParserManager

SETTINGS = "Steps: 20, Sampler: Euler, CFG scale: 7, Seed: 1, Size: 8x8, Model: a"


def parsed(prompt: str):
    texts = PngInfo()
    texts.add_text("parameters", f"{prompt}\nNegative prompt: low\n{SETTINGS}")
    file = Path(sys.argv[1], "a.png")
    Image.new("RGB", (8, 8)).save(file, pnginfo=texts)
    return ParserManager().parse(file)


plain = parsed("1girl, x")
assert [one.value for one in plain.prompts] == ["1girl, x"], plain
assert [one.value for one in plain.negative_prompts] == ["low"], plain
try:
    print(parsed("1girl, Negative prompt: x"))
except ValueError as error:
    print(f"ValueError: {error}")
    assert "too many values to unpack" in str(error)
else:
    sys.exit("It is read now: the finding no longer holds.")
PY
echo "As described."
