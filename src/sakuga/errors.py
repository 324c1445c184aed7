"""Everything sakuga raises on purpose.

    SakugaError
    ├── RequestError            a request breaks a rule; nothing was started
    │   ├── PromptRefused       a text no tool should parse: DTD, entity, over 64 KiB
    │   ├── ModelNotFound       no model, or no such component, where the request points
    │   └── OutputExists        what would be written is already there and force was not given
    ├── WeightsError            a checkpoint cannot be trusted or understood
    │   ├── CorruptFile         the bytes are not what the header says
    │   ├── UnsafeFile          a file asks to run code, or for more than tensors
    │   ├── LayoutError         no layout, or more than one, explains the keys
    │   ├── BindError           keys are missing, extra, or of another shape
    │   └── SpecMismatch        two sources describe different models
    ├── OutOfMemory             a stage does not fit in memory
    │   └── BudgetTooSmall      no plan draws this within the budget that was given
    ├── NonFiniteOutput         NaN or infinity would have left a stage, twice
    ├── Busy                    another drawing is under way
    ├── Paused                  a disk takes no more; the same command goes on later
    ├── ReceiptMismatch         a picture cannot be redrawn as it was made
    └── Cancelled               the user stopped it; nothing partial was left

Each class knows the exit code of a command that ends with it and the HTTP status
of a response that carries it. A message states the rule, what was got, and the fix.
"""

from __future__ import annotations

from typing import ClassVar

from sakuga.printable import shown


class SakugaError(Exception):
    """The root: a rule, what was got instead, and what to do about it."""

    code: ClassVar[str] = "error"
    exit_code: ClassVar[int] = 1
    http_status: ClassVar[int] = 500

    def __init__(self, rule: str, got: str, fix: str) -> None:
        super().__init__(rule, got, fix)
        self.rule, self.got = rule, got
        self.fix = fix if fix.endswith((".", "?", "!")) else f"{fix}."

    def __str__(self) -> str:
        return shown(f"{self.rule}; got {self.got}. {self.fix}")


class RequestError(SakugaError):
    """A request breaks a rule; nothing was started."""

    code = "invalid_request"
    exit_code = 2
    http_status = 400


class PromptRefused(RequestError):
    """A text no tool should parse: it declares a DTD or entity, or passes 64 KiB."""

    code = "prompt_refused"


class ModelNotFound(RequestError):
    """No model, or no such component of it, where the request points."""

    code = "model_not_found"
    http_status = 404


class OutputExists(RequestError):
    """What would be written is already there, and overwriting it was not asked for."""

    code = "output_exists"


class WeightsError(SakugaError):
    """A checkpoint cannot be trusted or understood."""

    code = "bad_weights"


class CorruptFile(WeightsError):
    """The bytes are not what the header says."""

    code = "corrupt_file"


class UnsafeFile(WeightsError):
    """A file asks to run code, or is of a kind that cannot be read without."""

    code = "unsafe_file"


class LayoutError(WeightsError):
    """No layout, or more than one, explains the keys of a file."""

    code = "unknown_layout"


class BindError(WeightsError):
    """Keys are missing, left over, or of another shape than the model's."""

    code = "unbound_weights"


class SpecMismatch(WeightsError):
    """Two sources describe different models."""

    code = "spec_mismatch"


class OutOfMemory(SakugaError):
    """A stage needs more memory than there is."""

    code = "out_of_memory"


class BudgetTooSmall(OutOfMemory):
    """No plan draws this within the budget. `smallest`: bytes of the least one that works."""

    code = "budget_too_small"
    http_status = 422

    def __init__(self, rule: str, got: str, fix: str, smallest: int = 0) -> None:
        super().__init__(rule, got, fix)
        self.smallest = smallest


class NonFiniteOutput(SakugaError):
    """A stage gave NaN or infinity, and so did its one retry in float32."""

    code = "non_finite_output"


class Busy(SakugaError):
    """Another drawing is under way; the same request may succeed later."""

    code = "busy"
    exit_code = 75
    http_status = 503


class Paused(SakugaError):
    """A disk takes no more; nothing is lost, and the same command goes on from there."""

    code = "paused"
    exit_code = 75
    http_status = 503


class ReceiptMismatch(SakugaError):
    """A picture cannot be redrawn as it was made."""

    code = "receipt_mismatch"
    http_status = 409


class Cancelled(SakugaError):
    """The user stopped the drawing; nothing partial was left behind."""

    code = "cancelled"
    exit_code = 130
    http_status = 499
