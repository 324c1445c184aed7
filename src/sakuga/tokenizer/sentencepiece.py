"""A SentencePiece model as data, read from its file as untrusted bytes.

The file (`tokenizer.model`) is a protocol buffer, of which a dozen fields matter here. Source:
https://github.com/google/sentencepiece/blob/master/src/sentencepiece_model.proto.
`tokenizer.assemble` makes a tokenizer of it.
"""

from __future__ import annotations

import json
import math
import struct
from dataclasses import dataclass, replace
from enum import IntEnum
from pathlib import Path
from typing import Any

from sakuga.errors import CorruptFile

BPE, UNIGRAM = "bpe", "unigram"
SPACE = "▁"  # what SentencePiece writes for a space
MAX_BYTES = 64_000_000
MAX_LENGTH = 256  # characters of a piece; Gemma's longest has 31
MAX_LETTERS = 6_000_000  # of all pieces; Gemma's have 1.5 million. Every split of each is tried
MAX_CONFIG = 16_000_000
MAX_FIELDS = 310_000  # of a message: one for each piece, one for each user-defined symbol
MAX_PIECE_FIELDS = 8
MAX_PIECES = 300_000  # Gemma's are 262,144, XLM-RoBERTa's 250,000
CONFIG = "tokenizer_config.json"
AGAIN = "Fetch the file again"


class PieceKind(IntEnum):
    """What a piece is, by the numbers of SentencePiece, which GGUF shares."""

    NORMAL = 1
    UNKNOWN = 2
    CONTROL = 3
    USER_DEFINED = 4
    UNUSED = 5
    BYTE = 6


@dataclass(frozen=True, slots=True)
class Added:
    """A token that is looked for in a text before all others, as tokenizers' AddedToken.

    left_space, right_space: whether spaces at that side belong to the token (lstrip, rstrip).
    single_word: whether it is found only as a word of its own. normalised: whether it is looked
    for in the normalised text, not in the text as it came.
    """

    id: int
    text: str
    special: bool = False
    left_space: bool = False
    right_space: bool = False
    single_word: bool = False
    normalised: bool = False


@dataclass(frozen=True, slots=True)
class SentencePieceModel:
    """A vocabulary of pieces, and how a text is split into them.

    algorithm: BPE or UNIGRAM. texts, scores, kinds: of each piece, by id. unknown: the id for
    what no piece covers. bos, eos: the ids that every text begins and ends with, or None.
    byte_fallback: whether unknown characters become pieces for their bytes. charsmap: compiled
    rules of normalisation. leading_space: whether a space is put before a text. single_spaces:
    whether runs of spaces become one, and those at the ends are removed. added: tokens beside
    the pieces, or pieces that are matched in another way.
    """

    algorithm: str
    texts: tuple[str, ...]
    scores: tuple[float, ...]
    kinds: tuple[int, ...]
    unknown: int = 0
    bos: int | None = None
    eos: int | None = None
    byte_fallback: bool = False
    charsmap: bytes = b""
    leading_space: bool = True
    single_spaces: bool = False
    added: tuple[Added, ...] = ()


def open_sentencepiece(file: Path) -> SentencePieceModel:
    """The model in a `tokenizer.model`, with the added tokens of a config beside it.

    Raises CorruptFile, and OSError where there is no file.
    """
    config = file.with_name(CONFIG)
    for path, most in ((file, MAX_BYTES), (config, MAX_CONFIG)):
        if path.is_file() and path.stat().st_size > most:
            got = f"{path.stat().st_size} bytes"
            raise _corrupt(f"a {path.name} has at most {most} bytes", got, str(path))
    model = read_sentencepiece(file.read_bytes(), str(file))
    return _configured(model, config) if config.is_file() else model


def read_sentencepiece(data: bytes, source: str) -> SentencePieceModel:
    """The model in the bytes of a `tokenizer.model`. source: names them in messages.

    Every text begins with the model's bos; with Unigram it also ends with its eos, as Gemma's
    and XLM-RoBERTa's texts do. A Unigram model with SentencePiece's own first ids (unknown, bos,
    eos) gets those of XLM-RoBERTa (fairseq) instead. Raises CorruptFile.
    """
    if len(data) > MAX_BYTES:
        raise _corrupt(f"a vocabulary has at most {MAX_BYTES} bytes", str(len(data)), source)
    try:
        model = _parsed(data, source)
    except (IndexError, ValueError, struct.error) as error:
        rule = "a SentencePiece model is a protocol buffer"
        raise _corrupt(rule, str(error)[:80], source) from None
    model = checked(model, source)
    kinds = (PieceKind.UNKNOWN, PieceKind.CONTROL, PieceKind.CONTROL)
    fairseq = model.algorithm == UNIGRAM and model.kinds[:3] == kinds
    return _fairseq(model, source) if fairseq else model


def write_sentencepiece(model: SentencePieceModel) -> bytes:
    """The bytes of a `tokenizer.model` that reads as `model` does.

    The file has no place for fairseq's ids, for added tokens, or for whether an eos follows.
    """
    listed = (
        _field(1, _field(1, text.encode()) + b"\x15" + struct.pack("<f", score)
               + _number(3, PieceKind.UNKNOWN if n == model.unknown else kind))
        for n, (text, score, kind) in enumerate(
            zip(model.texts, model.scores, model.kinds, strict=True))
    )  # fmt: skip
    trainer = _number(3, 2 if model.algorithm == BPE else 1) + _number(35, model.byte_fallback)
    for field, number in ((46, model.bos), (47, model.eos)):
        if number is not None:
            trainer += _field(field, model.texts[number].encode())
    normalizer = _field(2, model.charsmap) + _number(3, model.leading_space)
    normalizer += _number(4, model.single_spaces)
    return b"".join(listed) + _field(2, trainer) + _field(3, normalizer)


def checked(model: SentencePieceModel, source: str) -> SentencePieceModel:
    """The same model, if a tokenizer can be made of it. Raises CorruptFile."""
    count = len(model.texts)
    if not 0 < count <= MAX_PIECES:
        raise _corrupt(f"a vocabulary has 1 to {MAX_PIECES} pieces", str(count), source)
    if not all(type(text) is str and text for text in model.texts):
        raise _corrupt("a piece is a text", "another thing, or an empty one", source)
    lengths = [len(text) for text in model.texts]
    if max(lengths) > MAX_LENGTH or sum(lengths) > MAX_LETTERS:
        rule = f"a piece has at most {MAX_LENGTH} letters, all together {MAX_LETTERS}"
        raise _corrupt(rule, f"{max(lengths)}, together {sum(lengths)}", source)
    if len(set(model.texts)) != count:
        raise _corrupt("every piece is there once", "one twice", source)
    if not all(type(score) in (int, float) and math.isfinite(score) for score in model.scores):
        raise _corrupt("a score is a finite number", "another thing", source)
    if not set(model.kinds) <= set(PieceKind):
        raise _corrupt("a kind is a number from 1 to 6", "another thing", source)
    for number in (model.unknown, model.bos, model.eos):
        if number is not None and not 0 <= number < count:
            raise _corrupt("special tokens are pieces", f"id {number} of {count}", source)
    return model


def _fairseq(model: SentencePieceModel, source: str) -> SentencePieceModel:
    """With the ids of XLM-RoBERTa: <s> 0, <pad> 1, </s> 2, <unk> 3, others plus 1, <mask> last.

    Source: fairseq's dictionary, as transformers' XLMRobertaTokenizer describes it.
    """
    unknown, bos, eos = model.texts[:3]
    texts = (bos, "<pad>", eos, unknown, *model.texts[3:], "<mask>")
    if len(set(texts)) != len(texts):
        raise _corrupt("<pad> and <mask> are no pieces of the model", "one that is", source)
    kinds = (
        PieceKind.CONTROL,
        PieceKind.CONTROL,
        PieceKind.CONTROL,
        PieceKind.UNKNOWN,
        *model.kinds[3:],
    )
    mask = Added(len(texts) - 1, "<mask>", special=True, left_space=True)
    return replace(
        model,
        texts=texts,
        scores=(0.0, 0.0, 0.0, 0.0, *model.scores[3:], 0.0),
        kinds=(*kinds, PieceKind.CONTROL),
        unknown=3,
        bos=0,
        eos=2,
        added=(mask,),
    )


def _configured(model: SentencePieceModel, file: Path) -> SentencePieceModel:
    """With the tokens that a tokenizer_config.json adds."""
    rule = "added_tokens_decoder maps ids to tokens with their manners"
    try:
        config = json.loads(file.read_bytes())
    except (ValueError, RecursionError) as error:
        raise _corrupt(f"{CONFIG} is JSON", str(error)[:80], str(file)) from None
    listed = config.get("added_tokens_decoder", {}) if isinstance(config, dict) else None
    if not isinstance(listed, dict):
        raise _corrupt(rule, "another thing", str(file))
    added = []
    for number, token in listed.items():
        text = token.get("content") if isinstance(token, dict) else None
        known = number.isascii() and number.isdigit() and len(number) < 10
        if not known or not isinstance(text, str) or not text:
            raise _corrupt(rule, f"{str(token)[:80]!r} for {number[:20]!r}", str(file))
        added.append(
            Added(
                int(number),
                text,
                special=token.get("special") is True,
                left_space=token.get("lstrip") is True,
                right_space=token.get("rstrip") is True,
                single_word=token.get("single_word") is True,
                normalised=token.get("normalized") is True,
            )
        )
    return replace(model, added=tuple(sorted(added, key=lambda each: each.id)))


def _parsed(data: bytes, source: str) -> SentencePieceModel:
    """What a ModelProto says: pieces (1), trainer_spec (2), normalizer_spec (3)."""
    parts: dict[int, list[bytes]] = {1: [], 2: [], 3: []}
    for number, value in _fields(data):
        if number in parts and isinstance(value, bytes):
            parts[number].append(value)
    if len(parts[1]) > MAX_PIECES:
        got = f"{len(parts[1])} of them"
        raise _corrupt(f"a vocabulary has at most {MAX_PIECES} pieces", got, source)
    texts, scores, kinds = [], [], []
    for part in parts[1]:
        piece = dict(_fields(part, MAX_PIECE_FIELDS))
        texts.append(_bytes(piece, 1).decode("utf-8"))
        scores.append(_float(piece, 2))
        kinds.append(_int(piece, 3, PieceKind.NORMAL))
    trainer, normalizer = (dict(_fields(b"".join(parts[number]))) for number in (2, 3))
    algorithm = {1: UNIGRAM, 2: BPE}.get(_int(trainer, 3, 1))
    if algorithm is None:
        raise _corrupt("a SentencePiece model is Unigram or BPE", "another kind", source)
    if _int(trainer, 24, 0) or not _int(normalizer, 5, 1):
        raise _corrupt("a space is kept as a sign before its word", "another way", source)
    if PieceKind.UNKNOWN not in kinds:
        raise _corrupt("one piece stands for what is unknown", "none", source)
    ids = {text: n for n, text in enumerate(texts) if kinds[n] == PieceKind.CONTROL}
    ends = algorithm == UNIGRAM
    return SentencePieceModel(
        algorithm=algorithm,
        texts=tuple(texts),
        scores=tuple(scores),
        kinds=tuple(kinds),
        unknown=kinds.index(PieceKind.UNKNOWN),
        bos=ids.get(_bytes(trainer, 46, b"<s>").decode("utf-8")),
        eos=ids.get(_bytes(trainer, 47, b"</s>").decode("utf-8")) if ends else None,
        byte_fallback=bool(_int(trainer, 35, 0)),
        charsmap=_bytes(normalizer, 2),
        leading_space=bool(_int(normalizer, 3, 1)),
        single_spaces=bool(_int(normalizer, 4, 1)),
    )


def _fields(data: bytes, most: int = MAX_FIELDS) -> list[tuple[int, int | bytes]]:
    """The fields of a message: number and value. Raises IndexError or ValueError.

    most: fields that a message may have; more would take longer to read than any real file.
    """
    found: list[tuple[int, int | bytes]] = []
    at, end = 0, len(data)
    while at < end:
        if len(found) == most:
            raise ValueError(f"more than {most} fields in a message")
        tag, at = _varint(data, at)
        wire = tag & 7
        if wire == 0:
            value, at = _varint(data, at)
            found.append((tag >> 3, value))
            continue
        if wire == 2:
            size, at = _varint(data, at)
        elif wire in (1, 5):
            size = 8 if wire == 1 else 4
        else:
            raise ValueError(f"wire type {wire}")
        start, at = at, at + size
        if at > end:
            raise ValueError("a field that goes past the end")
        found.append((tag >> 3, data[start:at]))
    return found


def _varint(data: bytes, at: int) -> tuple[int, int]:
    """A number of seven bits a byte, lowest first, and where it ends."""
    value = data[at]
    if value < 128:
        return value, at + 1
    value &= 127
    for shift in range(7, 70, 7):
        at += 1
        byte = data[at]
        value |= (byte & 127) << shift
        if byte < 128:
            return value, at + 1
    raise ValueError("a number of more than ten bytes")


def _field(number: int, value: bytes) -> bytes:
    return _written(number << 3 | 2) + _written(len(value)) + value


def _number(number: int, value: int) -> bytes:
    return _written(number << 3) + _written(value)


def _written(number: int) -> bytes:
    """A number of seven bits a byte, lowest first."""
    low, rest = number & 127, number >> 7
    return bytes([low | 128]) + _written(rest) if rest else bytes([low])


def _int(message: dict[int, Any], number: int, otherwise: int) -> int:
    value = message.get(number, otherwise)
    if not isinstance(value, int):
        raise ValueError(f"field {number} is no number")
    return value - (1 << 64) if value >= 1 << 63 else value


def _bytes(message: dict[int, Any], number: int, otherwise: bytes = b"") -> bytes:
    value = message.get(number, otherwise)
    if not isinstance(value, bytes):
        raise ValueError(f"field {number} is no text")
    return value


def _float(message: dict[int, Any], number: int) -> float:
    (value,) = struct.unpack("<f", _bytes(message, number) or bytes(4))
    return float(value)


def _corrupt(rule: str, got: str, source: str) -> CorruptFile:
    return CorruptFile(rule, f"{got} in {source}", AGAIN)
