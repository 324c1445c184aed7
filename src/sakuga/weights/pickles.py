"""Reads the pickle in a torch archive by a list of allowed instructions; nothing in it is run.

A pickle is a program for a stack machine. Those that torch.save writes for state dicts build
dicts, lists, tuples, numbers and strings, and describe tensors by calls of three functions.
This machine builds the former, and takes each call down as a `TensorRef`. It has no way to
import, to call, or to make an object of a class: a program that asks for one of these is
refused, with what it asked for and where. Source: "pickletools" in the Python library
reference, which lists every instruction; torch/_utils.py, for the arguments of the calls.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from sakuga.errors import CorruptFile, UnsafeFile
from sakuga.weights.formats import OF_STORAGE, OF_TORCH
from sakuga.weights.garbage import nothing_collected
from sakuga.weights.untrusted import SAVE_AGAIN

MAX_BYTES = 1 << 24
MAX_STEPS = 300_000  # under a second; a tensor takes about 30
MAX_LONG = 16  # bytes of a whole number
PROTOCOL = b"\x80"  # the instruction that pickles begin with since protocol 2
MAX_KEY = 100  # letters of a storage's name, which torch makes of digits
REMEDY = (
    "Do not load it. If you trust who made it, open it with torch.load on a machine of no "
    "value, and torch.save its state dict alone, as a plain dict of tensors"
)

OLD = frozenset(each.encode() for each in "FILPSVdglp")  # how protocols 0 and 1 write values
RESAVE = (
    "Pickles of protocol 0 and 1 are not read, harmless or not. If you trust who made it, load it "
    "and save it again with torch.save in protocol 2, which is its default, or later"
)


@dataclass(frozen=True, slots=True)
class Named:
    """A name of some module, which stands for nothing until an instruction uses it."""

    module: str
    name: str

    def __str__(self) -> str:
        return f"{self.module}.{self.name}"


@dataclass(frozen=True, slots=True)
class StorageRef:
    """Bytes that lie in an entry of the archive: `count` values of `dtype` (U8 where untyped)."""

    key: str
    dtype: str
    count: int


@dataclass(frozen=True, slots=True)
class TensorRef:
    """A view of a storage, as torch would rebuild it; offset and strides count values."""

    storage: StorageRef
    dtype: str
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


@nothing_collected()
def read_pickle(data: bytes, where: str, most: int = MAX_STEPS) -> Any:
    """What a pickle builds: dicts, lists, tuples, numbers, strings, None, and `TensorRef`.

    where: what it is called in messages. most: instructions that it may have. Containers may
    hold each other, or themselves. Raises UnsafeFile, with the name and the offset, where it asks
    for anything else, CorruptFile where it is cut short, makes no sense, or has more than 16 MiB
    or `most` instructions.
    """
    program = _Program(data, where)
    machine = _Machine(program)
    if len(data) > MAX_BYTES:
        raise program.corrupt(f"has at most {MAX_BYTES} bytes", f"{len(data)} bytes")
    for _ in range(most):
        at = program.start = program.at
        code = data[at : at + 1] or program.take(1)  # of nothing, which it refuses
        program.at = at + 1
        if code == b".":
            return machine.pop()
        step = STEPS.get(code)
        if step is None:
            old = code in OLD and not data.startswith(PROTOCOL)
            told = f"the instruction {REFUSED.get(code, repr(code))}"
            program.refuse(told, RESAVE if old else REMEDY)
        else:
            step(machine)
    raise program.corrupt(f"has at most {most} instructions", "more")


class _Program:
    """The bytes of a pickle, and how far they are read."""

    __slots__ = ("at", "data", "start", "where")

    def __init__(self, data: bytes, where: str) -> None:
        self.data, self.where = data, where
        self.at = self.start = 0  # where the next byte lies, and the instruction at hand began

    def take(self, count: int) -> bytes:
        """The next `count` bytes of the program."""
        taken = self.data[self.at : self.at + count]
        if len(taken) < count:
            raise self.corrupt("ends with a stop", "a file cut short")
        self.at += count
        return taken

    def number(self, size: int) -> int:
        """The next `size` bytes as a number without sign."""
        return int.from_bytes(self.take(size), "little")

    def signed(self, size: int) -> int:
        """The next `size` bytes as a number with a sign."""
        return int.from_bytes(self.take(size), "little", signed=True)

    def text(self, size: int) -> str:
        """The next `size` bytes as text."""
        return self.decoded(self.take(size))

    def line(self) -> str:
        """The text up to the end of the line."""
        end = self.data.find(b"\n", self.at, self.at + 1000)
        if end < 0:
            raise self.corrupt("names things in lines of at most 1000 bytes", "a longer one")
        return self.decoded(self.take(end + 1 - self.at)[:-1])

    def decoded(self, data: bytes) -> str:
        try:
            return data.decode("utf-8")
        except UnicodeDecodeError:
            raise self.corrupt("has texts in UTF-8", repr(data[:40])) from None

    def refuse(self, what: str, remedy: str = REMEDY) -> None:
        """Raise UnsafeFile: the program asks for more than tensors."""
        raise UnsafeFile(
            "nothing but tensors, numbers, texts, dicts and lists is read from a torch archive",
            f"{what} at byte {self.start} of {self.where}",
            remedy,
        )

    def corrupt(self, rule: str, got: str) -> CorruptFile:
        what = f"{got} at byte {self.start} of {self.where}"
        return CorruptFile(f"a pickle of torch.save {rule}", what, SAVE_AGAIN)


class _Machine:
    """A stack and a memo, which a program fills."""

    __slots__ = ("marks", "memo", "program", "stack")

    def __init__(self, program: _Program) -> None:
        self.program = program
        self.stack: list[Any] = []
        self.marks: list[list[Any]] = []
        self.memo: dict[int, Any] = {}

    def push(self, value: Any) -> None:
        self.stack.append(value)

    def mark(self) -> None:
        """Begin a group on a stack of its own."""
        self.marks.append(self.stack)
        self.stack = []

    def pop(self) -> Any:
        if not self.stack:
            raise self.program.corrupt("takes what it has put there", "an empty stack")
        return self.stack.pop()

    def top(self, kind: type) -> Any:
        """The value on top, which must be a `kind`."""
        if not self.stack or type(self.stack[-1]) is not kind:
            got = kind_of(self.stack[-1]) if self.stack else "nothing"
            raise self.program.corrupt(f"fills a {kind.__name__} that it has put there", got)
        return self.stack[-1]

    def marked(self) -> list[Any]:
        """All that was put there since the last mark."""
        if not self.marks:
            raise self.program.corrupt("has a mark before each group", "none")
        taken, self.stack = self.stack, self.marks.pop()
        return taken

    def remember(self, place: int) -> None:
        """Keep the value on top under a number."""
        if not self.stack:
            raise self.program.corrupt("takes what it has put there", "an empty stack")
        self.memo[place] = self.stack[-1]

    def recall(self, place: int) -> None:
        """Put back what was kept under a number."""
        if place not in self.memo:
            raise self.program.corrupt("recalls what it has kept", f"number {place}")
        self.push(self.memo[place])


def kind_of(value: object) -> str:
    """What a value is, in a few words, however large or deep it is."""
    if isinstance(value, Named):
        return str(value)
    if isinstance(value, dict | list | tuple):
        return f"{type(value).__name__} of {len(value)}"
    return type(value).__name__


def _protocol(machine: _Machine) -> None:
    version = machine.program.number(1)
    if not 2 <= version <= 5:
        raise machine.program.corrupt("has protocol 2 to 5", str(version))


def _long(machine: _Machine) -> None:
    size = machine.program.number(1)
    if size > MAX_LONG:
        raise machine.program.corrupt(f"has whole numbers of at most {MAX_LONG} bytes", str(size))
    machine.push(machine.program.signed(size))


def _tuple(machine: _Machine, size: int) -> None:
    parts = [machine.pop() for _ in range(size)]
    machine.push(tuple(reversed(parts)))


def _append(machine: _Machine) -> None:
    value = machine.pop()
    machine.top(list).append(value)


def _extend(machine: _Machine) -> None:
    values = machine.marked()
    machine.top(list).extend(values)


def _set_item(machine: _Machine) -> None:
    value, key = machine.pop(), machine.pop()
    _put(machine, [key, value])


def _set_items(machine: _Machine) -> None:
    _put(machine, machine.marked())


def _put(machine: _Machine, flat: list[Any]) -> None:
    """Put keys and values, one after the other, into the dict on top."""
    target = machine.top(dict)
    if len(flat) % 2:
        raise machine.program.corrupt("has a value for each key", "a key without one")
    for key, value in zip(flat[::2], flat[1::2], strict=True):
        # Texts cannot be chosen so that their hashes collide, and so few numbers hardly so.
        if type(key) is not str and not (type(key) is int and -(2**63) <= key < 2**63):
            raise machine.program.corrupt("has dicts by text or number", f"{kind_of(key)} as a key")
        if key in target:
            raise machine.program.corrupt("has a key once", f"{str(key)[:80]!r} twice")
        target[key] = value


def _global(machine: _Machine) -> None:
    module, name = machine.program.line(), machine.program.line()
    machine.push(_named(machine, module, name))


def _stack_global(machine: _Machine) -> None:
    name, module = machine.pop(), machine.pop()
    if type(name) is not str or type(module) is not str:
        got = f"{kind_of(module)}, {kind_of(name)}"
        raise machine.program.corrupt("names things by texts", got)
    machine.push(_named(machine, module, name))


def _named(machine: _Machine, module: str, name: str) -> Named:
    """A name from the list of those allowed. It is compared, never looked up."""
    found = Named(module, name)
    if found not in ALLOWED:
        machine.program.refuse(f"the name {str(found)[:200]!r}")
    return found


def _instance(machine: _Machine) -> None:
    """The old way to make an object of a class: always refused, by its name."""
    module, name = machine.program.line(), machine.program.line()
    machine.program.refuse(f"an object of {module + '.' + name:.200}")


def _persistent(machine: _Machine) -> None:
    """A storage, by ("storage", kind, key, device, count). The device is of no interest."""
    match machine.pop():
        case ("storage", Named() as kind, str() as key, str(), int() as count) if (
            kind in KINDS and len(key) <= MAX_KEY
        ):
            machine.push(StorageRef(key, KINDS[kind], count))
        case other:
            raise machine.program.corrupt("refers to storages", kind_of(other))


def _call(machine: _Machine) -> None:
    """A call of a known function, which describes something; nothing is called."""
    arguments, function = machine.pop(), machine.pop()
    rebuild = CALLS.get(function) if type(function) is Named else None
    if rebuild is None:
        machine.program.refuse(f"a call of {kind_of(function)}")
    else:
        machine.push(rebuild(machine, arguments))


def _ordered_dict(machine: _Machine, arguments: object) -> dict[Any, Any]:
    if arguments != ():
        raise machine.program.corrupt("fills an OrderedDict after making it", kind_of(arguments))
    return {}


def _tensor(machine: _Machine, arguments: object) -> TensorRef:
    """From (storage, offset, size, stride, requires_grad, hooks): version 2.

    Metadata may follow where conjugation or negation of the values is still to be done.
    """
    match arguments:
        case (StorageRef() as storage, *place, bool(), dict()):
            return _view(machine, storage, storage.dtype, place)
    raise machine.program.corrupt("describes tensors as torch does", kind_of(arguments))


def _typed_tensor(machine: _Machine, arguments: object) -> TensorRef:
    """From (storage, offset, size, stride, requires_grad, hooks, dtype): version 3."""
    match arguments:
        case (StorageRef() as storage, *place, bool(), dict(), Named("torch", name)) if (
            name in OF_TORCH
        ):
            return _view(machine, storage, OF_TORCH[name], place)
    raise machine.program.corrupt("describes tensors as torch does", kind_of(arguments))


def _view(machine: _Machine, storage: StorageRef, dtype: str, place: list[Any]) -> TensorRef:
    """A view at (offset, size, stride), once these are whole numbers."""
    match place:
        case (int() as offset, tuple() as shape, tuple() as strides):
            if all(type(number) is int for number in (offset, *shape, *strides)):
                return TensorRef(storage, dtype, offset, shape, strides)
    raise machine.program.corrupt("places a tensor by whole numbers", "others")


def _parameter(machine: _Machine, arguments: object) -> TensorRef:
    """From (tensor, requires_grad, hooks): the tensor."""
    match arguments:
        case (TensorRef() as tensor, bool(), dict()):
            return tensor
    raise machine.program.corrupt("describes parameters as torch does", kind_of(arguments))


def _build(machine: _Machine) -> None:
    """The attributes of an OrderedDict: the `_metadata` of a state dict, which says nothing."""
    state = machine.pop()
    if type(state) is not dict or not machine.stack or type(machine.stack[-1]) is not dict:
        on = kind_of(machine.stack[-1]) if machine.stack else "nothing"
        machine.program.refuse(f"attributes ({kind_of(state)}) of {on}")


ORDERED_DICT = Named("collections", "OrderedDict")
KINDS = {Named("torch", name): dtype for name, dtype in OF_STORAGE.items()}
KINDS[Named("torch.storage", "UntypedStorage")] = "U8"
CALLS: Mapping[Named, Callable[[_Machine, object], Any]] = {
    ORDERED_DICT: _ordered_dict,
    Named("torch._utils", "_rebuild_tensor_v2"): _tensor,
    Named("torch._utils", "_rebuild_tensor_v3"): _typed_tensor,
    Named("torch._utils", "_rebuild_parameter"): _parameter,
}
ALLOWED = frozenset(CALLS) | frozenset(KINDS) | {Named("torch", name) for name in OF_TORCH}

STEPS: Mapping[bytes, Callable[[_Machine], object]] = {
    b"\x80": _protocol,
    b"\x95": lambda machine: machine.program.take(8),  # the length of a frame
    b"(": lambda machine: machine.mark(),
    b"0": lambda machine: machine.pop(),
    b"1": lambda machine: machine.marked().clear(),
    b"N": lambda machine: machine.push(None),
    b"\x88": lambda machine: machine.push(True),
    b"\x89": lambda machine: machine.push(False),
    b"K": lambda machine: machine.push(machine.program.number(1)),
    b"M": lambda machine: machine.push(machine.program.number(2)),
    b"J": lambda machine: machine.push(machine.program.signed(4)),
    b"\x8a": _long,
    b"G": lambda machine: machine.push(struct.unpack(">d", machine.program.take(8))[0]),
    b"\x8c": lambda machine: machine.push(machine.program.text(machine.program.number(1))),
    b"X": lambda machine: machine.push(machine.program.text(machine.program.number(4))),
    b"\x8d": lambda machine: machine.push(machine.program.text(machine.program.number(8))),
    b"]": lambda machine: machine.push([]),
    b"a": _append,
    b"e": _extend,
    b")": lambda machine: machine.push(()),
    b"\x85": lambda machine: _tuple(machine, 1),
    b"\x86": lambda machine: _tuple(machine, 2),
    b"\x87": lambda machine: _tuple(machine, 3),
    b"t": lambda machine: machine.push(tuple(machine.marked())),
    b"}": lambda machine: machine.push({}),
    b"s": _set_item,
    b"u": _set_items,
    b"q": lambda machine: machine.remember(machine.program.number(1)),
    b"r": lambda machine: machine.remember(machine.program.number(4)),
    b"\x94": lambda machine: machine.remember(len(machine.memo)),
    b"h": lambda machine: machine.recall(machine.program.number(1)),
    b"j": lambda machine: machine.recall(machine.program.number(4)),
    b"c": _global,
    b"\x93": _stack_global,
    b"Q": _persistent,
    b"R": _call,
    b"b": _build,
    b"i": _instance,
}
# By their names in the reference, for messages.
REFUSED: Mapping[bytes, str] = {
    b"C": "SHORT_BINBYTES, which holds bytes",
    b"B": "BINBYTES, which holds bytes",
    b"o": "OBJ, which makes an object of a class",
    b"\x81": "NEWOBJ, which makes an object of a class",
    b"\x92": "NEWOBJ_EX, which makes an object of a class",
    b"\x82": "EXT1, which imports by number",
    b"\x83": "EXT2, which imports by number",
    b"\x84": "EXT4, which imports by number",
    b"P": "PERSID, a reference in text",
    b"\x97": "NEXT_BUFFER, which takes bytes from elsewhere",
}
