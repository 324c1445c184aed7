"""One error of each class of the tree, as people meet it.

What is quick to provoke is provoked, so that the page says what the code says. What takes a
drawing to go wrong is written down; a test holds its remedy against the sources.
"""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

from sakuga import errors
from sakuga.api.request import Request
from sakuga.api.resolved import resolve
from sakuga.checkpoint.catalog import locate
from sakuga.checkpoint.families.detect import detect
from sakuga.checkpoint.families.family import read_spec
from sakuga.checkpoint.families.tables import FAMILIES
from sakuga.commands.plan import Question, read_question
from sakuga.errors import SakugaError
from sakuga.files.atomic import refuse_existing
from sakuga.model.spec import CHIBI
from sakuga.prompt.document import read
from sakuga.weights.pickles import read_pickle
from sakuga.weights.store import Store


def _truncated() -> None:
    file = Path("model.safetensors")
    file.write_bytes(b"\xff\x01" + bytes(20))
    Store.open(file)


def _overwritten() -> None:
    Path("picture.png").touch()
    refuse_existing(Path("picture.png"))


PROVOKED: Mapping[type[SakugaError], Callable[[], object]] = {
    errors.RequestError: lambda: resolve(Request("1girl", steps=0), CHIBI.drawing),
    errors.PromptRefused: lambda: read('<!DOCTYPE a [<!ENTITY b "c">]>'),
    errors.ModelNotFound: lambda: locate("newbie"),
    errors.OutputExists: _overwritten,
    errors.CorruptFile: _truncated,
    errors.UnsafeFile: lambda: read_pickle(b"cos\nsystem\n.", "data.pkl"),
    errors.LayoutError: lambda: detect(["unet.conv_in.weight", "unet.conv_in.bias"]),
    errors.SpecMismatch: lambda: read_spec(
        FAMILIES["vae"], {"act_fn": "relu"}, "vae/config.json", {}, "vae"
    ),
    errors.BudgetTooSmall: lambda: read_question(Question(vram="400MB")).plan(),
}

WRITTEN = (
    SakugaError(
        "a file must be written whole", "No space left on device for picture.png",
        "A temporary folder does not take it either: ",
    ),
    errors.BindError(
        "every key of a file fills the model or is dropped for a stated reason",
        "missing 'decoder.conv_out.bias'; unexpected 'decoder.conv_out.scale' in vae",
        "Check that the file is complete and belongs to this model",
    ),
    errors.OutOfMemory(
        "the stage 'denoise' of this drawing needs at least 1.05 GB",
        "CUDA out of memory. Tried to allocate 512.00 MiB",
        "Ask for a smaller size or fewer pictures at once, or close other programs.",
    ),
    errors.Busy(
        "an engine draws one request at a time", "another while one is drawn",
        "Close the events of the other, let requests wait, or open a second engine.",
    ),
    errors.Paused(
        "pictures must be written", "No space left on device for out",
        "What is done stays done; make room, then give the same command again.",
    ),
    errors.NonFiniteOutput(
        "every value that leaves a stage must be finite",
        "NaN or infinity at step 3, in float32 too",
        "Look for it in the weights: sakuga doctor MODEL --scan.",
    ),
    errors.ReceiptMismatch(
        "a picture must be drawn again with its own weights",
        "other weights of transformer in 'chibi' than in 'newbie-3.5b'",
        "Pass the model with --model, or --allow-other-weights.",
    ),
    errors.Cancelled(
        "a drawing runs until it is done or stopped", "Ctrl-C", "No partial file was left."
    ),
)  # fmt: skip


def examples() -> dict[type[SakugaError], SakugaError]:
    """An error of each class that is raised as itself, by class."""
    found: dict[type[SakugaError], SakugaError] = {type(error): error for error in WRITTEN}
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        for kind, provoke in PROVOKED.items():
            try:
                provoke()
            except SakugaError as error:
                found[kind] = error
    return found
