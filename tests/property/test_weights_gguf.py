"""Any bytes give a header that agrees with its file, or a typed error, and quickly."""

from __future__ import annotations

import struct
from contextlib import suppress
from pathlib import Path

from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from sakuga.errors import CorruptFile
from sakuga.tokenizer.sentencepiece import (
    BPE,
    UNIGRAM,
    PieceKind,
    SentencePieceModel,
    checked,
    read_sentencepiece,
    write_sentencepiece,
)
from sakuga.weights.gguf import BLOCKS, PLAIN, TYPES, open_gguf
from sakuga.weights.llama_cpp import pieces_of

NUMBERS = {name: number for number, name in TYPES.items()}
FORMATS = PLAIN | BLOCKS
NO_FIXTURE = settings(suppress_health_check=[HealthCheck.function_scoped_fixture])


def text(value: str) -> bytes:
    return struct.pack("<Q", len(value.encode())) + value.encode()


@st.composite
def files(draw: st.DrawFn) -> tuple[bytes, dict[str, tuple[str, tuple[int, ...], bytes]]]:
    """A well-formed file, and what is in it: type, shape and bytes by name."""
    names = draw(st.lists(st.text(max_size=6), unique=True, max_size=4))
    entries, data, held = b"", b"", {}
    for name in names:
        kind = draw(st.sampled_from(sorted(FORMATS)))
        rows = draw(st.lists(st.integers(0, 3), max_size=2))
        shape = (*rows, draw(st.integers(0, 2)) * FORMATS[kind].values)
        size = 1
        for count in shape:
            size *= count
        raw = draw(st.binary(min_size=1, max_size=1)) * (
            size // FORMATS[kind].values * FORMATS[kind].nbytes
        )
        sizes = tuple(reversed(shape))
        entries += text(name) + struct.pack(f"<I{len(sizes)}Q", len(sizes), *sizes)
        entries += struct.pack("<IQ", NUMBERS[kind], len(data))
        data += raw + bytes(-len(raw) % 32)
        held[name] = (kind, shape, raw)
    words = draw(st.lists(st.text(max_size=3), max_size=3))
    values = text("tokenizer.ggml.tokens") + struct.pack("<IIQ", 9, 8, len(words))
    values += b"".join(map(text, words)) + text("tokenizer.ggml.model")
    values += struct.pack("<I", 8) + text("llama")
    head = b"GGUF" + struct.pack("<IQQ", 3, len(names), 2) + values + entries
    return head + bytes(-len(head) % 32) + data, held


@NO_FIXTURE
@given(made=files())
def test_what_is_written_is_read(
    tmp_path: Path, made: tuple[bytes, dict[str, tuple[str, tuple[int, ...], bytes]]]
) -> None:
    content, held = made
    file = tmp_path / "x.gguf"
    file.write_bytes(content)
    found = open_gguf(file)
    assert set(found.tensors) == set(held)
    for name, (kind, shape, raw) in held.items():
        each = found.tensors[name]
        assert (each.type, each.shape) == (kind, shape)
        assert content[each.start : each.start + each.nbytes] == raw


@NO_FIXTURE
@given(made=files(), data=st.data())
def test_a_file_with_a_few_bytes_changed_is_consistent_or_refused(
    tmp_path: Path, made: tuple[bytes, object], data: st.DataObject
) -> None:
    content = bytearray(made[0])
    for _ in range(data.draw(st.integers(1, 3))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(0, len(content)) | st.just(len(content)))
    file = tmp_path / "x.gguf"
    file.write_bytes(content[:cut])
    try:
        found = open_gguf(file)
    except CorruptFile:
        return
    end = 0
    for each in sorted(found.tensors.values(), key=lambda each: (each.start, each.nbytes)):
        assert end <= each.start
        end = each.start + each.nbytes
    assert end <= cut
    with suppress(CorruptFile):
        pieces_of(found)


@example(b"\n\x07\n\x05<unk>")
@given(data=st.binary(max_size=200))
def test_a_model_of_any_bytes_is_read_or_refused(data: bytes) -> None:
    with suppress(CorruptFile):
        read_sentencepiece(data, "x")


@st.composite
def vocabularies(draw: st.DrawFn) -> SentencePieceModel:
    """A vocabulary as SentencePiece might have trained it."""
    special = ["<unk>", "<s>", "</s>"]
    taken = {*special, "<pad>", "<mask>"}
    word = st.text(min_size=1, max_size=4).filter(lambda word: word not in taken)
    words = draw(st.lists(word, unique=True, max_size=4))
    scores = [draw(st.floats(-100, 0, width=32)) for _ in words]
    return SentencePieceModel(
        draw(st.sampled_from((BPE, UNIGRAM))),
        (*special, *words),
        (0.0, 0.0, 0.0, *scores),
        (PieceKind.UNKNOWN, PieceKind.CONTROL, PieceKind.CONTROL, *[PieceKind.NORMAL] * len(words)),
        bos=1,
        byte_fallback=draw(st.booleans()),
    )


@given(made=vocabularies())
def test_a_vocabulary_is_read_as_it_was_written(made: SentencePieceModel) -> None:
    found = read_sentencepiece(write_sentencepiece(made), "x")
    scores = dict(zip(found.texts, found.scores, strict=True))
    assert scores.items() >= set(zip(made.texts, made.scores, strict=True))
    assert (found.algorithm, found.byte_fallback) == (made.algorithm, made.byte_fallback)


@given(made=vocabularies(), data=st.data())
def test_a_vocabulary_with_a_few_bytes_changed_is_consistent_or_refused(
    made: SentencePieceModel, data: st.DataObject
) -> None:
    content = bytearray(write_sentencepiece(made))
    for _ in range(data.draw(st.integers(1, 3))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(0, len(content)) | st.just(len(content)))
    try:
        found = read_sentencepiece(bytes(content[:cut]), "x")
    except CorruptFile:
        return
    assert checked(found, "x") == found
    assert len(found.texts) == len(found.scores) == len(found.kinds)
