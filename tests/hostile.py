"""Files that mean harm, and how to build each: add one to a table, and every test has it.

    HEADERS    headers of safetensors files that lie, each with the bytes after it
    FILES      single files: a function writes one at the path it is given
    PROGRAMS   pickles that mean harm; each is put into an archive as torch.save lays it out
    FOLDERS    model folders: a function spoils one that is in order
    ADAPTERS   the same for the folder of a LoRA

The code in them leaves a file called `ran` in the working directory, if it ever runs.
"""

from __future__ import annotations

import io
import json
import math
import os
import pickle
import shutil
import struct
import subprocess
import tarfile
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

RUN = "open('ran', 'w')"
VAE = "vae/diffusion_pytorch_model.safetensors"


# Safetensors


def entry(dtype: Any = "F32", shape: Any = (2,), offsets: Any = (0, 8)) -> dict[str, Any]:
    """What a header says of one tensor."""
    return {"dtype": dtype, "shape": shape, "data_offsets": offsets}


def raw(file: Path, header: Any, data: bytes = b"", length: int | None = None) -> Path:
    """A file with any header: text, or a value written as JSON."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    file.write_bytes((len(text) if length is None else length).to_bytes(8, "little") + text + data)
    return file


# Each with what the refusal says.
HEADERS: Mapping[str, tuple[Any, bytes, str]] = {
    "offsets reversed": ({"a": entry(offsets=(8, 0))}, bytes(8), "a byte range is as long"),
    "offsets negative": ({"a": entry(offsets=(-8, 0))}, bytes(8), "a first and a last byte"),
    "offsets past 64 bits": ({"a": entry("U8", (2**70,), (0, 2**70))}, bytes(8), "whole numbers"),
    "ranges overlap": (
        {"a": entry(), "b": entry(offsets=(4, 12))},
        bytes(12),
        "ranges that overlap",
    ),
    "one range for two": ({"a": entry(), "b": entry()}, bytes(8), "ranges that overlap"),
    "a range out of the file": (
        {"a": entry(), "b": entry(offsets=(8, 16))},
        bytes(8),
        "the file is cut short",
    ),
    "a gap for a stowaway": (
        {"a": entry(), "b": entry(offsets=(12, 20))},
        bytes(20),
        "leave a gap",
    ),
    "a stowaway at the end": (
        {"a": entry()},
        bytes(8) + b"PK\x03\x04" + bytes(40),
        "44 bytes after the last one",
    ),
    "a key twice": (
        b'{"a":%s,"a":%s}' % ((json.dumps(entry()).encode(),) * 2),
        bytes(8),
        "the key 'a' twice",
    ),
    "a key twice within": (
        b'{"a":{"dtype":"F32","shape":[2],"shape":[1],"data_offsets":[0,8]}}',
        bytes(8),
        "the key 'shape' twice",
    ),
    "a key that is no text": (
        b'{"\\ud800":%s}' % json.dumps(entry()).encode(),
        bytes(8),
        "surrogates",
    ),
    "a shape beyond the world": (
        {"a": entry(shape=(2**62, 2**62))},
        bytes(8),
        "a byte range is as long",
    ),
    "a shape of nothing times everything": (
        {"a": entry(shape=[0] + [2**63] * 3)},
        bytes(8),
        "whole numbers",
    ),
    "a shape below nothing": ({"a": entry(shape=(-1, -2))}, bytes(8), "whole numbers"),
    "a shape of a thousand sides": (
        {"a": entry(shape=[1] * 1000 + [2])},
        bytes(8),
        "at most 16 whole numbers",
    ),
    "a wrong dtype": ({"a": entry("F64")}, bytes(8), "a byte range is as long"),
    "an unknown dtype": ({"a": entry("OBJECT")}, bytes(8), "a dtype is one of"),
    "a dtype that is a list": ({"a": entry(["F32"])}, bytes(8), "a dtype is one of"),
    "NaN for an offset": (
        b'{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,NaN]}}',
        bytes(8),
        "a first and a last byte",
    ),
    "a number of 5000 digits": (b'{"a":' + b"9" * 5000 + b"}", b"", "a number of 5000 digits"),
    "nested 100000 deep": (b'{"a":' + b"[" * 100_000, b"", "recursion"),
    "a name of a megabyte": (
        {"encoder.conv_in." * 70_000: entry()},
        bytes(8),
        "at most 1000 letters",
    ),
    "metadata with a program": (
        {"__metadata__": {"a": {"b": "c"}}, "a": entry()},
        bytes(8),
        "maps names to strings",
    ),
    "a million double keys": (b'{"":1' + b',"":1' * 1_000_000 + b"}", b"", "commas"),
    "escapes for a minute": (b'{"a":"' + b"\\n" * 20_000_000 + b'"}', b"", "a tensor has dtype"),
}


def huge_header(file: Path) -> None:
    raw(file, b"{", b"", 100_000_001)
    os.truncate(file, 100_000_100)  # sparse: takes no room


def header_past_the_end(file: Path) -> None:
    raw(file, {"a": entry()}, bytes(8), 2**63)


def cut_short(file: Path) -> None:
    raw(file, {"a": entry()}, bytes(7))


# Pickles


class Runs:
    """Pickles to a call: what a loader does to load it."""

    def __init__(self, function: Callable[..., Any], *arguments: Any) -> None:
        self.call = (function, arguments)

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return self.call


class Counts:
    """Pickles to an object with a state, made by its class."""

    def __init__(self) -> None:
        self.state = 1


def dump(value: object, protocol: int = 2) -> bytes:
    return pickle.dumps(value, protocol)


def text(value: str) -> bytes:
    """A string as an instruction."""
    return b"X" + struct.pack("<L", len(value.encode())) + value.encode()


def tensor(
    shape: bytes = b"K\x04\x85",
    stride: bytes = b"K\x01\x85",
    offset: bytes = b"K\0",
    count: bytes = b"K\x04",
    key: str = "0",
    kind: bytes = b"ctorch\nFloatStorage\n",
) -> bytes:
    """A tensor of four floats as instructions, any part of which may be another."""
    storage = b"(" + text("storage") + kind + text(key) + text("cpu") + count + b"tQ"
    hooks = b"ccollections\nOrderedDict\n)R"
    return (b"ctorch._utils\n_rebuild_tensor_v2\n(" + storage + offset + shape + stride
            + b"\x89" + hooks + b"tR")  # fmt: skip


def state(*items: bytes) -> bytes:
    """A program that builds a dict of these tensors, by number."""
    pairs = b"".join(text(str(n)) + item for n, item in enumerate(items))
    return b"\x80\x04}(" + pairs + b"u."


def beside(value: bytes) -> bytes:
    """A program that is in order, but for what it puts beside its tensor."""
    return state(tensor(), value)


def call(module: str, name: str, *arguments: bytes) -> bytes:
    """A call of a function by its name."""
    return f"c{module}\n{name}\n(".encode() + b"".join(arguments) + b"tR"


def dumped(value: object, protocol: int = 2) -> bytes:
    """What pickle writes for a value, between the protocol and the stop."""
    return dump(value, protocol)[2 if protocol < 4 else 11 : -1]


ORDERED = b"ccollections\nOrderedDict\n"
MINUS = b"J\xff\xff\xff\xff"
LONG = b"\x8a\x08" + struct.pack("<q", 2**62)
SIDES = b"(" + b"K\x01" * 1000 + b"t"
LAUGHS = b"".join(b"0](" + b"h%c" % n * 9 + b"eq%c" % (n + 1) for n in range(30))
KEYS = b"".join(b"J" + struct.pack("<L", n) + b"N" for n in range(490_000))

# Each with what the refusal says.
PROGRAMS: Mapping[str, tuple[bytes, str]] = {
    "os.system": (beside(dumped(Runs(os.system, "touch ran"))), "'posix.system'"),
    "os.system, protocol 4": (dump([Runs(os.system, "touch ran")], 4), "'posix.system'"),
    "eval": (beside(dumped(Runs(eval, RUN))), "'__builtin__.eval'"),
    "exec": (beside(dumped(Runs(exec, RUN))), "'__builtin__.exec'"),
    "subprocess": (beside(dumped(Runs(subprocess.Popen, ["touch", "ran"]))), ".Popen'"),
    "open": (beside(dumped(Runs(open, "ran", "w"))), "'io.open'"),
    "getattr": (beside(dumped(Runs(getattr, "", "upper"))), "'__builtin__.getattr'"),
    "import_module": (beside(call("importlib", "import_module", text("evil"))), "'importlib.im"),
    "a module of the folder": (beside(call("evil", "Run")), "'evil.Run'"),
    "runpy": (beside(call("runpy", "run_path", text("evil.py"))), "'runpy.run_path'"),
    "torch.load": (beside(call("torch", "load", text("evil.pt"))), "'torch.load'"),
    "a pickle within": (beside(call("_pickle", "loads", text("N."))), "'_pickle.loads'"),
    "bytes as a storage": (
        beside(call("torch.storage", "_load_from_bytes", text("N."))), "'torch.storage._load_from"
    ),
    "numpy": (beside(call("numpy.core.multiarray", "_reconstruct")), "'numpy.core.multiarray._rec"),
    "globals of an allowed name": (
        beside(text("torch._utils") + text("_rebuild_tensor_v2.__globals__") + b"\x93"),
        "'torch._utils._rebuild_tensor_v2.__globals__'",
    ),
    "an allowed name of another module": (
        beside(b"cevil\n_rebuild_tensor_v2\n"), "'evil._rebuild_tensor_v2'"
    ),
    "a name over two lines": (
        beside(b"ctorch\n_utils._rebuild_tensor_v2\n"), "'torch._utils._rebuild_tensor_v2'"
    ),
    "a name of numbers": (beside(b"K\1K\2\x93"), "names things by texts"),
    "a name of a megabyte": (beside(b"c" + b"a" * 1_000_000 + b"\na\n"), "at most 1000 bytes"),
    "INST": (beside(b"(" + text("touch ran") + b"ios\nsystem\n"), "an object of os.system"),
    "OBJ": (beside(b"(" + ORDERED + b"o"), "OBJ"),
    "NEWOBJ": (beside(ORDERED + b")\x81"), "NEWOBJ"),
    "NEWOBJ_EX": (beside(ORDERED + b")}\x92"), "NEWOBJ_EX"),
    "EXT1": (beside(b"\x82\x01"), "EXT1"),
    "PERSID": (beside(b"P0\n"), "PERSID"),
    "an instruction that is none": (beside(b"\xff"), "instruction b'\\xff'"),
    "BUILD of an object": (beside(dumped(Counts())), "'hostile.Counts'"),
    "BUILD of a tensor": (beside(tensor() + b"}b"), "attributes (dict of 0) of TensorRef"),
    "BUILD of a list": (beside(b"]}b"), "attributes (dict of 0) of list of 0"),
    "BUILD with slots": (beside(ORDERED + b")RN}\x86b"), "attributes (tuple of 2) of dict"),
    "a call of a dtype": (beside(call("torch", "float32")), "a call of torch.float32"),
    "a call of a storage": (beside(call("torch", "FloatStorage")), "a call of torch.FloatStorage"),
    "a call of a text": (beside(text("os.system") + b")R"), "a call of str"),
    "a call of a tensor": (beside(tensor() + b")R"), "a call of TensorRef"),
    "a dict from pairs": (beside(ORDERED + b"]\x85R"), "fills an OrderedDict after"),
    "a set": (beside(dumped({1})), "'__builtin__.set'"),
    "bytes": (beside(b"C\1x"), "SHORT_BINBYTES"),
    "protocol 0": (dump({"a": 1}, 0), "instruction b'd'"),
    "protocol 9": (b"\x80\x09" + state(tensor())[2:], "has protocol 2 to 5"),
    "no stop": (state(tensor())[:-1], "cut short"),
    "nothing": (b"", "cut short"),
    "an empty stack": (b"\x80\x02.", "an empty stack"),
    "a memo of an empty stack": (b"\x80\x02q\0.", "an empty stack"),
    "no mark": (b"\x80\x02t.", "a mark before each group"),
    "a memo of nothing": (beside(b"h\x07"), "number 7"),
    "a text past the end": (beside(b"X\xff\xff\xff\x7fa"), "cut short"),
    "a text past 64 bits": (beside(b"\x8d" + b"\xff" * 8), "cut short"),
    "a text that is none": (beside(b"X\1\0\0\0\xff"), "texts in UTF-8"),
    "a number of 255 bytes": (beside(b"\x8a\xff" + b"\xff" * 255), "at most 16 bytes"),
    "a list as a key": (beside(b"}]Ns"), "list of 0 as a key"),
    "a number past 64 bits as a key": (beside(b"}\x8a\x09" + b"\x7f" * 9 + b"Ns"), "int as a key"),
    "a key without a value": (beside(b"}(K\1u"), "a key without one"),
    "a key twice": (beside(b"}(" + (text("a") + b"N") * 2 + b"u"), "'a' twice"),
    "items of a list": (beside(b"](K\1K\1u"), "fills a dict"),
    "members of a dict": (beside(b"}K\1a"), "fills a list"),
    "a dict that holds itself": (b"\x80\2}q\0" + text("a") + b"h\0s.", "at most 32 deep"),
    "a list that holds itself wide": (beside(b"]q\0(" + b"h\0" * 9999 + b"e"), "at most 32 deep"),
    "laughs by the billion": (beside(b"]q\0" + LAUGHS), "at most 200000 values"),
    "nested 100000 deep": (beside(b"]" * 100_000 + b"a" * 99_999), "at most 32 deep"),
    "a million instructions": (beside(b"N0" * 500_000 + b"N"), "at most 300000 instructions"),
    "a million marks": (beside(b"(" * 500_000 + b"1" * 500_000 + b"N"), "at most 300000 instr"),
    "half a million keys": (beside(b"}(" + KEYS + b"u"), "at most 300000 instructions"),
    "17 MB of text": (beside(text("a" * 17_000_000)), "at most 16777216 bytes"),
    "a name of 10 MB": (
        state(tensor(), b"}" + text("a" * 10_000_000) + tensor() + b"s"), "names of up to 500"
    ),
    "names that grow": (
        beside(b"}" + (text("a" * 99) + b"}") * 30 + b"K\0" + tensor() + b"s" * 31),
        "names of up to 500",
    ),
    "a name that safetensors keep": (
        b"\x80\2}" + text("__metadata__") + tensor() + b"s.", "'__metadata__'"
    ),
    "one name for two": (
        b"\x80\2}(" + text("a.b") + tensor() + text("a") + b"}" + text("b") + tensor() + b"su.",
        "two called 'a.b'",
    ),
    "no tensors": (b"\x80\2}" + text("epoch") + b"K\3s.", "holds tensors"),
    "a tensor alone": (b"\x80\2" + tensor() + b".", "holds a dict of tensors"),
    "a tensor out of its storage": (state(tensor(shape=b"K\5\x85")), "up to byte 20 of 16"),
    "a tensor far out of its storage": (state(tensor(offset=LONG)), "within their storage"),
    "a tensor before its storage": (state(tensor(offset=MINUS)), "an address can hold"),
    "strides out of the storage": (state(tensor(stride=b"K\2\x85")), "up to byte 28 of 16"),
    "strides backwards": (state(tensor(stride=MINUS + b"\x85")), "an address can hold"),
    "strides past 64 bits": (state(tensor(stride=LONG + b"\x85")), "within their storage"),
    "two strides for one side": (state(tensor(stride=b"K\1K\1\x86")), "1 sizes and 2 strides"),
    "a side below nothing": (state(tensor(shape=MINUS + b"\x85")), "an address can hold"),
    "a thousand sides": (state(tensor(shape=SIDES, stride=SIDES)), "at most 16 dimensions"),
    "a fraction as a side": (state(tensor(shape=b"G" + bytes(8) + b"\x85")), "by whole numbers"),
    "a truth as an offset": (state(tensor(offset=b"\x89")), "by whole numbers"),
    "a list as a shape": (state(tensor(shape=b"]")), "by whole numbers"),
    "one value spread over a disk": (
        state(tensor(shape=LONG + b"\x85", stride=b"K\0\x85")), "together at most"
    ),
    "many views of one storage": (
        state(*[tensor(shape=b"J\0\0\x10\0\x85", stride=b"K\0\x85")] * 200), "together at most"
    ),
    "a storage of another size": (state(tensor(count=b"K\5")), "storages of the stated size"),
    "a storage that is not there": (state(tensor(key="1")), "the bytes of each tensor"),
    "a storage by a path": (state(tensor(key="../../etc/passwd")), "the bytes of each tensor"),
    "a storage of a long name": (state(tensor(key="0" * 100_000)), "refers to storages"),
    "a storage of no kind": (state(tensor(kind=b"ctorch\nfloat32\n")), "refers to storages"),
    "a storage of another kind": (
        state(tensor(kind=b"ctorch\nComplexFloatStorage\n")), "'torch.ComplexFloatStorage'"
    ),
    "a quantised tensor": (beside(call("torch._utils", "_rebuild_qtensor")), "_rebuild_qtensor'"),
    "a sparse tensor": (beside(call("torch._utils", "_rebuild_sparse_tensor")), "_sparse_tensor'"),
    "a subclass of tensors": (
        beside(call("torch._tensor", "_rebuild_from_type_v2")), "_rebuild_from_type_v2'"
    ),
    "a tensor of no storage": (
        beside(call("torch._utils", "_rebuild_tensor_v2", b"N")), "describes tensors as torch does"
    ),
    "a parameter of no tensor": (
        beside(call("torch._utils", "_rebuild_parameter", b"N\x88}")), "describes parameters"
    ),
    "a dtype of no name": (
        state(tensor()[:-2].replace(b"_v2", b"_v3") + text("float32") + b"tR"),
        "describes tensors as torch does",
    ),
    "a pending negation": (
        state(tensor()[:-2] + b"}" + text("neg") + b"\x88stR"), "describes tensors as torch does"
    ),
}  # fmt: skip


def torch_zip(
    file: Path | io.BytesIO,
    program: bytes,
    storages: Mapping[str, bytes] | None = None,
    packed: int = zipfile.ZIP_STORED,
) -> None:
    """An archive as torch.save lays it out, around any pickle program. packed: zip's method."""
    with zipfile.ZipFile(file, "w", packed) as archive:
        archive.writestr("x/data.pkl", program)
        archive.writestr("x/byteorder", b"little")
        for key, data in (storages or {"0": bytes(16)}).items():
            archive.writestr(f"x/data/{key}", data)
        archive.writestr("x/version", b"3\n")


def torch_zip_and(*more: tuple[str, bytes]) -> Callable[[Path], None]:
    """An archive in order, with more entries at its end."""

    def write(file: Path) -> None:
        torch_zip(file, state(tensor()))
        with zipfile.ZipFile(file, "a") as archive:
            for name, data in more:
                archive.writestr(name, data)

    return write


def plain_zip(*entries: tuple[str, bytes], listed: bytes = b"", hidden: int = 0) -> bytes:
    """A zip file by hand, without checksums.

    listed: more for the directory. hidden: how many of the first entries it leaves out.
    """
    body, directory = bytearray(), bytearray()
    for index, (name, data) in enumerate(entries):
        local, central = records(name, len(data), len(body))
        body += local + data
        directory += central if index >= hidden else b""
    directory += listed
    count = directory.count(b"PK\1\2")
    end = struct.pack("<4H2LH", 0, 0, count, count, len(directory), len(body), 0)
    return bytes(body + directory + b"PK\5\6" + end)


def records(name: str, size: int, offset: int) -> tuple[bytes, bytes]:
    """What a zip file says of an entry, before its data and in the directory."""
    label = name.encode()
    same = struct.pack("<4H3L2H", 0, 0, 0, 0, 0, size, size, len(label), 0)
    place = struct.pack("<3H2L", 0, 0, 0, 0, offset)
    return (
        b"PK\3\4" + struct.pack("<H", 20) + same + label,
        b"PK\1\2" + struct.pack("<2H", 20, 20) + same + place + label,
    )


FULL = 2**32 - 1


def zip64(file: Path, entries: Mapping[str, tuple[bytes, int]], skew: int = 0) -> None:
    """A zip file with every size in 64 bits, holes behind the data, and no checksums.

    entries: the data of each and its size, holes included. skew: how far its locator is off.
    """
    directory = b""
    with file.open("wb") as stream:
        for name, (data, size) in entries.items():
            at, label = stream.tell(), name.encode()
            sizes = struct.pack("<2H2Q", 1, 16, size, size)
            local = (45, 0x808, 0, 0, 0, 0, FULL, FULL, len(label), len(sizes))
            stream.write(b"PK\3\4" + struct.pack("<5H3L2H", *local) + label + sizes + data)
            stream.seek(stream.tell() - len(data) + size)
            extra = struct.pack("<2H3Q", 1, 24, size, size, at)
            lengths = (len(label), len(extra), 0)
            central = (45, 45, 0x808, 0, 0, 0, 0, FULL, FULL, *lengths, 0, 0, 0, FULL)
            directory += b"PK\1\2" + struct.pack("<6H3L5H2L", *central) + label + extra
        at = stream.tell()
        count = (len(entries), len(entries), len(directory), at)
        end64 = b"PK\6\6" + struct.pack("<Q2H2L4Q", 44, 45, 45, 0, 0, *count)
        locator = b"PK\6\7" + struct.pack("<LQL", 0, at + len(directory) + skew, 1)
        end = b"PK\5\6" + struct.pack("<4H2LH", 0, 0, 2**16 - 1, 2**16 - 1, FULL, FULL, 0)
        stream.write(directory + end64 + locator + end)


def patched(whole: bytes, *changes: tuple[int, bytes]) -> Callable[[Path], object]:
    """Write these bytes, changed at some places; a negative one counts from the end."""
    data = bytearray(whole)
    for place, new in changes:
        data[place % len(data) : place % len(data) + len(new)] = new
    return lambda file: file.write_bytes(data)


def written(data: bytes) -> Callable[[Path], object]:
    return lambda file: file.write_bytes(data)


GOOD = (("x/data.pkl", state(tensor())), ("x/data/0", b"A" * 16))
GOOD_ZIP = plain_zip(*GOOD)
LISTED = GOOD_ZIP.index(b"PK\1\2")  # where the directory says of the first entry ...
LAST = GOOD_ZIP.rindex(b"PK\1\2")  # ... and of the second
LOCAL = GOOD_ZIP.rindex(b"PK\3\4")  # where the second has its own header
END = GOOD_ZIP.rindex(b"PK\5\6")
INNER = records("x/data/0", 16, 0)[0] + b"A" * 16  # an entry to hide in the data of another
INNER_AT = len(plain_zip(GOOD[0])[: plain_zip(GOOD[0]).index(b"PK\1\2")]) + 30 + len("x/data/1")


def legacy_pickle(file: Path) -> None:
    """As torch.save wrote before 1.6: a magic number, then more pickles."""
    magic = dump(0x1950A86A20F9469CFC6C)
    file.write_bytes(magic + dump(1001) + dump({}) + PROGRAMS["os.system"][0])


def tar_of_pickles(file: Path) -> None:
    """As torch.save wrote before 0.1.10."""
    with tarfile.open(file, "w") as archive:
        for name in ("pickle", "storages", "tensors"):
            info = tarfile.TarInfo(name)
            info.size = len(PROGRAMS["os.system"][0])
            archive.addfile(info, io.BytesIO(PROGRAMS["os.system"][0]))


def zip_bomb(file: Path) -> None:
    """50 MB of noughts in 50 kB, under a program that asks for them all."""
    count = b"J" + struct.pack("<L", 12_500_000)
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("x/data.pkl", state(tensor(shape=count + b"\x85", count=count)))
        archive.writestr("x/data/0", bytes(50_000_000), zipfile.ZIP_DEFLATED)


def zip_of_a_changed_program(file: Path) -> None:
    torch_zip(file, state(tensor()))
    file.write_bytes(file.read_bytes().replace(b"cpu", b"gpu", 1))


def two_files_in_one(file: Path) -> None:
    """Safetensors whose header of 67 MB begins like a zip file, and which ends like one."""
    start = b"PK\3\4\0\0\0\0"
    header = {"a": entry("U8", (len(GOOD_ZIP),), (0, len(GOOD_ZIP)))}
    padded = json.dumps(header).encode().ljust(int.from_bytes(start, "little"))
    file.write_bytes(start + padded + GOOD_ZIP)


def gguf(body: bytes, tensors: int = 0, values: int = 0, version: int = 3) -> Any:
    """Write a GGUF file of a header that says so many, and of whatever follows it."""
    return written(b"GGUF" + struct.pack("<I2Q", version, tensors, values) + body)


def placed(*sides: int, offset: int = 0, kind: int = 0) -> bytes:
    """What a GGUF header says of one tensor, called a, and the 32 bytes that it has room for."""
    said = struct.pack(f"<Q1sI{len(sides)}QIQ", 1, b"a", len(sides), *sides, kind, offset)
    return said + bytes(-(24 + len(said)) % 32) + bytes(32)


LISTS = struct.pack("<Q1sI", 1, b"a", 9) + struct.pack("<IQ", 9, 1) * 100_000

# Each with what a refusal says.
FILES: Mapping[str, tuple[Callable[[Path], object], str]] = {
    "header of 100 MB.safetensors": (huge_header, "at most 100000000 bytes"),
    "header past the end.safetensors": (header_past_the_end, "lies within its file"),
    "cut short.safetensors": (cut_short, "the file is cut short"),
    "empty.safetensors": (written(b""), "lies within its file"),
    "lfs pointer.safetensors": (written(b"version https://git-lfs.github.com/spec/v1\n"), "LFS"),
    "pickle renamed.safetensors": (written(PROGRAMS["eval"][0]), "a pickle"),
    "torch archive renamed.safetensors": (
        lambda file: torch_zip(file, PROGRAMS["eval"][0]), "a zip archive"
    ),
    "two files in one.safetensors": (two_files_in_one, "a zip archive"),
    "gguf of another version.gguf": (gguf(placed(8), 1, version=99), "version 2 or 3"),
    "gguf of endless tensors.gguf": (gguf(placed(8), 2**63), "at most 65536 tensors"),
    "gguf of endless values.gguf": (gguf(placed(8), 1, 2**63), "at most 65536 tensors"),
    "gguf of an endless text.gguf": (gguf(struct.pack("<Q", 2**63), 0, 1), "goes on past"),
    "gguf of lists in lists.gguf": (gguf(LISTS, 0, 1), "a list of either"),
    "gguf of an odd type.gguf": (gguf(placed(8, kind=99), 1), "got type 99"),
    "gguf of a vast tensor.gguf": (gguf(placed(2**40, 2**40), 1), "the file is cut short"),
    "gguf of a tensor elsewhere.gguf": (gguf(placed(8, offset=2**40), 1), "tensors lie end to end"),
    "gguf of many sides.gguf": (gguf(placed(*[1] * 99), 1), "at most 4 dimensions"),
    "gguf cut short.gguf": (gguf(placed(8)[:20], 1), "goes on past byte"),
    "bare pickle.pt": (written(PROGRAMS["os.system"][0]), "a bare pickle, which could run code"),
    "legacy pickle.pt": (legacy_pickle, "a bare pickle, which could run code"),
    "tar of pickles.pt": (tar_of_pickles, "a tar file of pickles, which could run code"),
    "torchscript.pt": (
        torch_zip_and(("x/constants.pkl", dump(())), ("x/code/__torch__.py", RUN.encode())),
        "TorchScript, which is code",
    ),
    "web page.pt": (written(b"<html>404</html>"), "is a zip file"),
    "zip bomb.pt": (zip_bomb, "neither compressed nor encrypted"),
    "zip encrypted.pt": (
        patched(GOOD_ZIP, (6, b"\1"), (LISTED + 8, b"\1")), "neither compressed nor encrypted"
    ),
    "zip of other things.pt": (written(plain_zip(("evil.py", RUN.encode()))), "has one data.pkl"),
    "zip without a folder.pt": (written(plain_zip(("data.pkl", GOOD[0][1]))), "has one data.pkl"),
    "zip of two pickles.pt": (torch_zip_and(("y/data.pkl", state(tensor()))), "has one data.pkl"),
    "zip of the other byte order.pt": (
        written(plain_zip(*GOOD, ("x/byteorder", b"big"))), "little-endian"
    ),
    "zip of an endless byte order.pt": (
        written(plain_zip(*GOOD, ("x/byteorder", b"little" * 9999))), "at most 10 bytes"
    ),
    "zip that climbs.pt": (written(plain_zip(*GOOD, ("x/../../evil.py", b""))), "lead nowhere"),
    "zip from the root.pt": (written(plain_zip(*GOOD, ("/etc/passwd", b""))), "lead nowhere"),
    "zip by backslashes.pt": (written(plain_zip(*GOOD, ("..\\..\\evil", b""))), "lead nowhere"),
    "zip of a nought.pt": (written(plain_zip(*GOOD, ("x/evil\0.txt", b""))), "lead nowhere"),
    "zip of odd names.pt": (patched(GOOD_ZIP, (LISTED + 46, b"\xff"), (30, b"\xff")), "UTF-8"),
    "zip of one name twice.pt": (written(plain_zip(*GOOD, GOOD[1])), "is there once"),
    "zip with an entry in another.pt": (
        written(
            plain_zip(GOOD[0], ("x/data/1", INNER), listed=records("x/data/0", 16, INNER_AT)[1])
        ),
        "follow each other",
    ),
    "zip with a hidden start.pt": (
        written(plain_zip(("evil.py", RUN.encode()), *GOOD, hidden=1)), "from the first byte"
    ),
    "zip into its directory.pt": (
        patched(GOOD_ZIP, (LAST + 20, b"\x11\0\0\0\x11")), "before the directory"
    ),
    "zip after other bytes.pt": (written(b"\x89PNG\r\n\x1a\n" + GOOD_ZIP), "is a zip file"),
    "zip before other bytes.pt": (written(GOOD_ZIP + bytes(64)), "the end record comes last"),
    "zip with a comment.pt": (
        patched(GOOD_ZIP + b"comments", (-10, b"\x08")), "the end record comes last"
    ),
    "zip with a comment that is not there.pt": (patched(GOOD_ZIP, (-2, b"\x08")), "right before"),
    "zip with a gap.pt": (written(GOOD_ZIP[:END] + bytes(9) + GOOD_ZIP[END:]), "right before"),
    "zip with a stowaway.pt": (written(plain_zip(*GOOD, listed=b"evil")), "fill the directory"),
    "zip of more than there is.pt": (patched(GOOD_ZIP, (END + 10, b"\3")), "lists every entry"),
    "zip of endless entries.pt": (
        written(plain_zip(*GOOD, *((f"x/{n}", b"") for n in range(50_000)))), "at most 50000"
    ),
    "zip of an endless directory.pt": (
        written(plain_zip(*GOOD, listed=bytes(1 << 24))), "in 16777216 bytes"
    ),
    "zip of other local names.pt": (patched(GOOD_ZIP, (30, b"y")), "says what the directory says"),
    "zip of other local methods.pt": (patched(GOOD_ZIP, (8, b"\x08")), "says what the directory"),
    "zip of no local header.pt": (patched(GOOD_ZIP, (LOCAL, b"X")), "its local"),
    "zip of sizes elsewhere.pt": (patched(GOOD_ZIP, (LAST + 20, b"\xff" * 4)), "in a zip64 field"),
    "zip64 of another place.pt": (
        lambda file: zip64(file, {name: (data, len(data)) for name, data in GOOD}, skew=1),
        "the locator points at",
    ),
    "zip of a changed program.pt": (zip_of_a_changed_program, "length and checksum"),
}  # fmt: skip


# Folders


def edit(file: Path, **changes: Any) -> None:
    """Change entries of a JSON file."""
    file.write_text(json.dumps({**json.loads(file.read_text()), **changes}))


def replace_json(name: str, content: str) -> Callable[[Path], object]:
    """Put other text into a JSON file of a folder."""
    return lambda folder: (folder / name).write_text(content)


def link(name: str, target: str) -> Callable[[Path], None]:
    """Put a link in the place of a file or folder."""

    def spoil(folder: Path) -> None:
        place = folder / name
        shutil.rmtree(place) if place.is_dir() else place.unlink(missing_ok=True)
        place.symlink_to(target)

    return spoil


def queue(name: str) -> Callable[[Path], None]:
    """Put a pipe in the place of a file: whoever opens it to read waits for ever."""

    def spoil(folder: Path) -> None:
        (folder / name).unlink(missing_ok=True)
        os.mkfifo(folder / name)

    return spoil


def secret(folder: Path) -> None:
    """A file beside the folder, which no reader of the folder has any business with."""
    shutil.copy(folder / VAE, folder.parent / "secret.safetensors")


def weights_from_outside(folder: Path) -> None:
    secret(folder)
    link(VAE, str(folder.parent / "secret.safetensors"))(folder)


def component_from_outside(folder: Path) -> None:
    (folder.parent / "private").mkdir()
    (folder.parent / "private" / "diary.txt").write_text("")
    link("vae", "../private")(folder)


def shard_from_outside(name: str) -> Callable[[Path], None]:
    """An index whose only shard lies elsewhere."""

    def spoil(folder: Path) -> None:
        secret(folder)
        (folder / VAE).rename(folder / "vae" / "a.safetensors")
        index = {"weight_map": {"a": name}}
        (folder / (VAE + ".index.json")).write_text(json.dumps(index))

    return spoil


def torch_shards(index: Mapping[str, str], **programs: bytes) -> Callable[[Path], None]:
    """Torch archives and an index in the place of weights; each archive around a program."""

    def spoil(folder: Path) -> None:
        (folder / VAE).unlink()
        for name, program in programs.items():
            torch_zip(folder / "vae" / f"{name}.bin", program)
        text = json.dumps({"weight_map": index})
        (folder / "vae" / "diffusion_pytorch_model.bin.index.json").write_text(text)

    return spoil


def torch_shard_from_outside(folder: Path) -> None:
    torch_zip(folder.parent / "secret.bin", state(tensor()))
    torch_shards({"0": "a.bin"})(folder)
    link("vae/a.bin", str(folder.parent / "secret.bin"))(folder)


def torch_shard_from_a_pipe(folder: Path) -> None:
    torch_shards({"0": "a.bin"})(folder)
    queue("vae/a.bin")(folder)


def torch_shard_of_safetensors(folder: Path) -> None:
    shutil.copy(folder / VAE, folder / "vae" / "a.bin")
    torch_shards({"0": "a.bin"})(folder)


def two_torch_archives(folder: Path) -> None:
    (folder / VAE).unlink()
    for name in "ab":
        torch_zip(folder / "vae" / f"{name}.pt", state(tensor()))


def endless_index(folder: Path) -> None:
    with (folder / (VAE + ".index.json")).open("w") as stream:
        stream.truncate(10_000_000_000)


def pickle_in_place(folder: Path) -> None:
    (folder / VAE).write_bytes(PROGRAMS["os.system"][0])


def weights_of_19000_names(folder: Path) -> None:
    names = [f"encoder.down_blocks.{n}.resnets.0.conv1.weight" for n in range(19_000)]
    raw(folder / VAE, {name: entry("U8", (0,), (0, 0)) for name in names})


def quantised(*tensors: tuple[str, str, tuple[int, ...], bytes]) -> Callable[[Path], None]:
    """Let tensors lie beside a weight of the autoencoder: by name, dtype, shape and bytes."""

    def spoil(folder: Path) -> None:
        file = folder / VAE
        whole = file.read_bytes()
        length = 8 + int.from_bytes(whole[:8], "little")
        header, data = json.loads(whole[8:length]), whole[length:]
        for name, dtype, shape, more in tensors:
            header.pop(name, None)
            header[name] = entry(dtype, shape, (len(data), len(data) + len(more)))
            data += more
        raw(file, {key: header[key] for key in header}, data)

    return spoil


def said(value: object) -> tuple[str, str, tuple[int, ...], bytes]:
    """What ComfyUI says in a tensor of how a weight is kept."""
    text = json.dumps(value).encode()
    return f"{LINEAR}.comfy_quant", "U8", (len(text),), text


def nf4_said(**words: object) -> tuple[str, str, tuple[int, ...], bytes]:
    """What bitsandbytes says of a weight."""
    text = json.dumps(words).encode()
    return f"{LINEAR}.weight.quant_state.bitsandbytes__nf4", "U8", (len(text),), text


def companion(part: str, dtype: str, *shape: int, byte: int = 1) -> Any:
    """A companion of a weight."""
    size = {"U8": 1, "I8": 1, "F8_E4M3": 1, "F32": 4}[dtype] * math.prod(shape)
    return f"{LINEAR}.{part}", dtype, shape, bytes([byte]) * size


LINEAR = "quantised.linear"
Q8, F8 = companion("weight", "I8", 8, 8), companion("weight", "F8_E4M3", 8, 8)
NVFP4 = (companion("weight", "U8", 16, 8), said({"format": "nvfp4"}))


def config_of_a_gigabyte(folder: Path) -> None:
    with (folder / "vae" / "config.json").open("w") as stream:
        stream.truncate(1_000_000_000)


def spoil_config(component: str, **changes: Any) -> Callable[[Path], None]:
    return lambda folder: edit(folder / component / "config.json", **changes)


VAE_CONFIG = "vae/config.json"
NAN = float("nan")
# Each with what the refusal says.
FOLDERS: Mapping[str, tuple[Callable[[Path], object], str]] = {
    "10 MB of JSON in a tensor": (
        quantised(Q8, (f"{LINEAR}.comfy_quant", "U8", (10**7,), b" " * 10**7)),
        "at most 65536 bytes",
    ),
    "JSON of brackets in a tensor": (
        quantised(Q8, (f"{LINEAR}.comfy_quant", "U8", (60_000,), b"[" * 60_000)),
        "one object",
    ),
    "JSON of endless digits in a tensor": (
        quantised(Q8, (f"{LINEAR}.comfy_quant", "U8", (60_000,), b'{"a":' + b"9" * 59_994 + b"}")),
        "59994 digits",
    ),
    "a quantised weight without scales": (
        quantised(Q8, said({"format": "int8_tensorwise"})),
        "has its weight_scale",
    ),
    "a scale for each column": (
        quantised(F8, companion("scale_weight", "F32", 1, 8)),
        "one for each of 8 rows",
    ),
    "a scale of a terabyte": (
        quantised(F8, (f"{LINEAR}.scale_weight", "F32", (2**38,), b"")),
        "a byte range is as long",
    ),
    "a format that is a list": (quantised(Q8, said({"format": [1]})), "names a format"),
    "a group of nothing": (
        quantised(
            Q8,
            companion("weight_scale", "F32", 1),
            said({"format": "int8_tensorwise", "convrot": True, "convrot_groupsize": 0}),
        ),
        "a power of 4",
    ),
    "a group of everything": (
        quantised(
            Q8,
            companion("weight_scale", "F32", 1),
            said({"format": "int8_tensorwise", "convrot": True, "convrot_groupsize": 4**30}),
        ),
        "power of 4",
    ),
    "scales of tiles that are none": (
        quantised(
            *NVFP4,
            companion("weight_scale", "F8_E4M3", 16, 1),
            companion("weight_scale_2", "F32", 1),
        ),
        "[128, 4]",
    ),
    "tiles without a scale of all": (
        quantised(*NVFP4, companion("weight_scale", "F8_E4M3", 128, 4)),
        "has its weight_scale_2",
    ),
    "nibbles past the end": (
        quantised(companion("weight", "U8", 33, 1), nf4_said(shape=[8, 8], blocksize=64)),
        "[32, 1]",
    ),
    "a shape of four billion squared": (
        quantised(companion("weight", "U8", 32, 1), nf4_said(shape=[2**32, 2**32], blocksize=64)),
        "gives its shape",
    ),
    "blocks of no size": (
        quantised(companion("weight", "U8", 32, 1), nf4_said(shape=[8, 8], blocksize=0)),
        "the size of its blocks",
    ),
    "a shape of truth": (
        quantised(companion("weight", "U8", 32, 1), nf4_said(shape=[True, 64], blocksize=64)),
        "gives its shape",
    ),
    "two programs at one weight": (
        quantised(Q8, companion("SCB", "F32", 8), companion("scale_weight", "F32", 1)),
        "weight is of F8_E4M3",
    ),
    "what only a quantization_config explains": (
        quantised(Q8, companion("scale", "F32", 8, 1)),
        "with their quantization_config",
    ),
    "a program that is not read": (quantised(companion("qweight", "I8", 8, 8)), "is not read"),
    "a group that no row is": (
        quantised(companion("_weight_qdata", "I8", 8, 8), companion("_weight_scale", "F32", 8, 3)),
        "row or group of one",
    ),
    "config nested 100000 deep": (replace_json(VAE_CONFIG, '{"a":' * 100_000), "recursion"),
    "config of a number of 5000 digits": (
        replace_json(VAE_CONFIG, '{"a":' + "9" * 5000 + "}"),
        "5000 digits",
    ),
    "config of a gigabyte": (config_of_a_gigabyte, "at most 16000000 bytes"),
    "config of double keys": (replace_json(VAE_CONFIG, '{"a": 1, "a": 2}'), "the key 'a' twice"),
    "config that is a list": (replace_json(VAE_CONFIG, "[]"), "a list in"),
    "config of a huge number": (
        spoil_config("vae", latent_channels=10**30),
        "latent_channels is a whole number",
    ),
    "config of a huge list": (
        spoil_config("vae", block_out_channels=[10**30] * 90_000),
        "block_out_channels is a whole number",
    ),
    "config of NaN": (spoil_config("vae", scaling_factor=NAN), "scaling_factor is a finite number"),
    "config of a number beyond floats": (spoil_config("vae", scaling_factor=10**400), "401 digits"),
    "config of infinity": (
        spoil_config("transformer", rope_theta=float("inf")),
        "rope_theta is a finite number",
    ),
    "config of NaN for a whole number": (
        spoil_config("transformer", n_layers=NAN),
        "n_layers is a whole number",
    ),
    "config below nothing": (
        spoil_config("text_encoder", num_hidden_layers=-1),
        "layer_types are -1",
    ),
    "config of a million layers": (
        spoil_config("text_encoder", num_hidden_layers=10**6),
        "layer_types are 1000000",
    ),
    "config of layers by the billion": (
        spoil_config("text_encoder_2", num_hidden_layers=10**9),
        "num_hidden_layers 1000000000 by",
    ),
    "config of an expression": (
        spoil_config("transformer", n_layers=f"__import__('os');{RUN}"),
        "n_layers is a whole number",
    ),
    "index of a bad habit": (
        replace_json("model_index.json", json.dumps({"sakuga": {"drawing": {"guidance": NAN}}})),
        "guidance is finite",
    ),
    "index of a habit beyond floats": (
        replace_json(
            "model_index.json", json.dumps({"sakuga": {"drawing": {"guidance": 10**400}}})
        ),
        "401 digits",
    ),
    "index of a long habit": (
        replace_json("model_index.json", json.dumps({"sakuga": {"drawing": {"a" * 1_000_000: 1}}})),
        "a drawing default is one of",
    ),
    "vocabulary of numbers": (
        replace_json("vocabulary.json", '{"words": [1, 2]}'),
        "a list of words",
    ),
    "vocabulary from outside": (link("vocabulary.json", "/etc/hostname"), "lie within"),
    "tokenizer from outside": (link("tokenizer/tokenizer.json", "/etc/hostname"), "lie within"),
    "index of a deep habit": (
        replace_json("model_index.json", '{"sakuga":' * 100_000),
        "recursion",
    ),
    "weights from outside": (weights_from_outside, "lie within"),
    "weights by a link to nowhere": (link(VAE, "nowhere.safetensors"), "weights are a file"),
    "weights by a link to itself": (
        link(VAE, "diffusion_pytorch_model.safetensors"),
        "weights are a file",
    ),
    "weights from a device": (link(VAE, "/dev/zero"), "weights are a file"),
    "weights from a pipe": (queue(VAE), "weights are a file"),
    "config from outside": (link(VAE_CONFIG, "/etc/hostname"), "lie within"),
    "component from outside": (component_from_outside, "lie within"),
    "shard above": (shard_from_outside("../../secret.safetensors"), "beside its index"),
    "shard by an absolute path": (shard_from_outside("/etc/passwd"), "beside its index"),
    "shard by a long name": (shard_from_outside("a" * 5000 + ".safetensors"), "beside its index"),
    "shard by a name with a nought": (shard_from_outside("a\0.safetensors"), "beside its index"),
    "shard by a drive": (shard_from_outside("..\\..\\secret.safetensors"), "beside its index"),
    "endless index": (endless_index, "an index has at most"),
    "pickle for weights": (pickle_in_place, "a pickle"),
    "torch shard above": (torch_shards({"0": "../../secret.bin"}), "beside its index"),
    "torch shard by an absolute path": (torch_shards({"0": "/etc/secret.bin"}), "beside its index"),
    "torch shard of another kind": (torch_shards({"0": "a.safetensors"}), "beside its index"),
    "torch shard that is not there": (torch_shards({"0": "a.bin"}), "every shard is there"),
    "torch shard from outside": (torch_shard_from_outside, "lie within"),
    "torch shard from a pipe": (torch_shard_from_a_pipe, "every shard is there"),
    "torch shard of safetensors": (torch_shard_of_safetensors, "is a zip file"),
    "torch shard of code": (
        torch_shards({"0": "a.bin", "1": "b.bin"}, a=state(tensor()), b=PROGRAMS["os.system"][0]),
        "posix.system",
    ),
    "torch shards of one name": (
        torch_shards({"0": "a.bin", "1": "b.bin"}, a=state(tensor()), b=state(tensor(), tensor())),
        "0' of b.bin missing from the index",
    ),
    "torch shard of more than is listed": (
        torch_shards({"0": "a.bin"}, a=state(tensor(), tensor())),
        "1' of a.bin missing from the index",
    ),
    "torch shards by the hundred": (
        torch_shards(
            {str(n): f"s{n}.bin" for n in range(101)},
            **{f"s{n}": state(tensor()) for n in range(101)},
        ),
        "at most 100 shards",
    ),
    "torch shards of much work each": (
        torch_shards(
            {str(n): f"s{n}.bin" for n in range(100)},
            **{f"s{n}": state(tensor(), b"N0" * 2000 + b"N") for n in range(100)},
        ),
        "at most 3000 instructions",
    ),
    "two torch archives": (two_torch_archives, "holds one"),
    "weights of 19000 names": (weights_of_19000_names, "19000 names"),
}


# Adapters

STEM = "base_model.model.layers.0.attention.out"
PEFT = {"peft_type": "LORA", "r": 2, "lora_alpha": 2, "base_model_name_or_path": "base"}


def adapter(folder: Path, *tensors: tuple[str, tuple[int, ...]], metadata: Any = None) -> None:
    """A folder as PEFT writes it, of tensors by the ends of their names; their bytes are a hole."""
    header: dict[str, Any] = {} if metadata is None else {"__metadata__": metadata}
    end = 0
    for name, shape in tensors or ((".lora_A.weight", (2, 4)), (".lora_B.weight", (4, 2))):
        start, end = end, end + 4 * math.prod(shape)
        header[STEM + name] = entry("F32", shape, (start, end))
    folder.mkdir(parents=True, exist_ok=True)
    file = raw(folder / "adapter_model.safetensors", header)
    os.truncate(file, file.stat().st_size + end)  # sparse: takes no room
    (folder / "adapter_config.json").write_text(json.dumps(PEFT))


def spoil_adapter(**changes: Any) -> Callable[[Path], None]:
    return lambda folder: edit(folder / "adapter_config.json", **changes)


def holding(*tensors: tuple[str, tuple[int, ...]], metadata: Any = None) -> Callable[[Path], None]:
    """Put other tensors into an adapter, and take its config away."""

    def spoil(folder: Path) -> None:
        adapter(folder, *tensors, metadata=metadata)
        (folder / "adapter_config.json").unlink()

    return spoil


def adapter_of_a_pickle(folder: Path) -> None:
    (folder / "adapter_model.safetensors").unlink()
    (folder / "adapter_model.bin").write_bytes(PROGRAMS["os.system"][0])


def adapter_renamed(folder: Path) -> None:
    (folder / "adapter_model.safetensors").write_bytes(PROGRAMS["os.system"][0])


def adapter_config_from_outside(folder: Path) -> None:
    (folder.parent / "config.json").write_text(json.dumps(PEFT))
    link("adapter_config.json", "../config.json")(folder)


MILLION = 10**6
# Each with what the refusal says.
ADAPTERS: Mapping[str, tuple[Callable[[Path], object], str]] = {
    "a rank of a million": (
        holding((".lora_A.weight", (MILLION, 4)), (".lora_B.weight", (4, MILLION))),
        "rank 1000000",
    ),
    "a change of a million by a million": (
        holding((".lora_A.weight", (2, MILLION)), (".lora_B.weight", (MILLION, 2))),
        "[1000000, 1000000]",
    ),
    "factors whose product is vast": (
        holding((".lokr_w1", (MILLION, 10)), (".lokr_w2", (MILLION, 10)), (".alpha", (1,))),
        "[1000000000000, 100]",
    ),
    "factors of vast factors": (
        holding((".lokr_w1", (2, 2)), (".lokr_w2_a", (2, MILLION)), (".lokr_w2_b", (MILLION, 2))),
        "rank 1000000",
    ),
    "sides of nothing": (
        holding((".lora_A.weight", (0, 2**62)), (".lora_B.weight", (2**62, 0))),
        "down [0,",
    ),
    "sides that do not meet": (
        holding((".lora_A.weight", (2, 4)), (".lora_B.weight", (4, 3))),
        "up [4, 3]",
    ),
    "half a pair": (holding((".lora_A.weight", (2, 4))), "make no whole"),
    "an alpha of many": (
        holding((".lora_A.weight", (2, 4)), (".lora_B.weight", (4, 2)), (".alpha", (MILLION,))),
        "F32 [1000000]",
    ),
    "an alpha of nothing": (
        holding((".lora_A.weight", (2, 4)), (".lora_B.weight", (4, 2)), (".alpha", (0,))),
        "F32 [0]",
    ),
    "an alpha that is no number": (holding(metadata={"lora_alpha": "nan"}), "'nan' as"),
    "an alpha beyond floats": (holding(metadata={"lora_alpha": "1e999"}), "'1e999' as"),
    "metadata nested 100000 deep": (
        holding(metadata={"lora_adapter_metadata": "[" * 100_000}),
        "recursion",
    ),
    "a path that climbs": (spoil_adapter(base_model_name_or_path="../../etc/passwd"), "leads out"),
    "a path that climbs by backslashes": (spoil_adapter(target_modules=["..\\..\\x"]), "leads out"),
    "a path that climbs in a pattern": (spoil_adapter(alpha_pattern={"../../x": 1}), "leads out"),
    "an expression that takes for ever": (
        spoil_adapter(rank_pattern={"(a+)+$" * 9: 8}),
        "names no modules",
    ),
    "a rank beyond addresses": (spoil_adapter(r=10**30), "no rank"),
    "a rank of NaN": (spoil_adapter(r=NAN), "no rank"),
    "an alpha of infinity": (spoil_adapter(lora_alpha=float("inf")), "'Infinity' as"),
    "a config of a number beyond floats": (spoil_adapter(lora_alpha=10**400), "401 digits"),
    "another kind of adapter": (spoil_adapter(peft_type="EVIL"), "EVIL"),
    "a config nested 100000 deep": (
        replace_json("adapter_config.json", '{"a":' * 100_000),
        "recursion",
    ),
    "a config from outside": (adapter_config_from_outside, "lie within"),
    "a pickle instead": (adapter_of_a_pickle, "adapter_model.bin"),
    "a pickle renamed": (adapter_renamed, "a pickle"),
    "weights from a pipe": (queue("adapter_model.safetensors"), "weights"),
    "weights from a device": (link("adapter_model.safetensors", "/dev/zero"), "lead"),
}


@dataclass(frozen=True)
class Built:
    """Something hostile on disk, a part of what the refusal says, and what it would pass for.

    kind: file | model | adapter.
    """

    path: Path
    says: str
    kind: str = "file"


def build(folder: Path, model: Path) -> dict[str, Built]:
    """Every file and folder by its name, built in `folder`. model: a model folder in order."""
    built: dict[str, Built] = {}
    for name, (header, data, says) in HEADERS.items():
        file = raw(folder / f"{len(built)}.safetensors", header, data)
        built[f"header: {name}"] = Built(file, says)
    for name, (program, says) in PROGRAMS.items():
        file = folder / f"{len(built)}.pt"
        torch_zip(file, program)
        built[f"pickle: {name}"] = Built(file, says)
    for name, (write, says) in FILES.items():
        write(folder / name)
        built[f"file: {name}"] = Built(folder / name, says)
    for name, (spoil, says) in FOLDERS.items():
        place = folder / str(len(built)) / "model"
        shutil.copytree(model, place)
        spoil(place)
        built[f"folder: {name}"] = Built(place, says, "model")
    for name, (spoil, says) in ADAPTERS.items():
        place = folder / str(len(built)) / "adapter"
        adapter(place)
        spoil(place)
        built[f"adapter: {name}"] = Built(place, says, "adapter")
    return built
