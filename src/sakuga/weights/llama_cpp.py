"""What llama.cpp writes into a GGUF file besides tensors: what model it is, and its words.

Source: llama.cpp, convert_hf_to_gguf.py, src/models/gemma3.cpp and src/llama-vocab.cpp.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from sakuga.errors import CorruptFile
from sakuga.tokenizer.sentencepiece import BPE, SPACE, PieceKind, SentencePieceModel, checked
from sakuga.weights.gguf import GGUF, Value
from sakuga.weights.untrusted import corrupt

WORDS = "tokenizer.ggml."
SENTENCEPIECE = "llama"  # what it calls byte-pair SentencePiece
LAYERS_OF_27B = 62  # the one size whose queries are not scaled by the width of a head
GEMMA = {
    "context_length": "max_position_embeddings",
    "embedding_length": "hidden_size",
    "block_count": "num_hidden_layers",
    "feed_forward_length": "intermediate_size",
    "attention.head_count": "num_attention_heads",
    "attention.head_count_kv": "num_key_value_heads",
    "attention.key_length": "head_dim",
    "attention.layer_norm_rms_epsilon": "rms_norm_eps",
    "attention.sliding_window": "sliding_window",
    "attention.sliding_window_pattern": "sliding_window_pattern",
}


def metadata_of(gguf: GGUF) -> dict[str, str]:
    """Named values as text, lists left out; "config" is what they say of the model, as JSON."""
    plain = {key: str(v) for key, v in gguf.values.items() if not isinstance(v, list)}
    config = gemma_config(gguf.values)
    return plain if config is None else plain | {"config": json.dumps(config)}


def gemma_config(values: Mapping[str, Value]) -> dict[str, Any] | None:
    """What a Gemma 3 file says of its model, in the words of transformers' config.

    None for another architecture. What llama.cpp assumes where a file is silent is assumed
    here too.
    """
    if values.get("general.architecture") != "gemma3":
        return None
    own = _under(values, "gemma3.")
    full = {"rope_type": "default", "rope_theta": own.get("rope.freq_base", 1_000_000.0)}
    if own.get("rope.scaling.type") == "linear":
        full |= {"rope_type": "linear", "factor": own.get("rope.scaling.factor", 1.0)}
    local = {"rope_type": "default", "rope_theta": own.get("rope.freq_base_swa", 10_000.0)}
    return {
        **{ours: own[theirs] for theirs, ours in GEMMA.items() if theirs in own},
        "query_pre_attn_scalar": _query_scalar(own),
        "rope_parameters": {"full_attention": full, "sliding_attention": local},
    }


def has_words(metadata: Mapping[str, str]) -> bool:
    """Whether a file carries a vocabulary of SentencePiece, by `metadata_of` it."""
    return metadata.get(WORDS + "model") == SENTENCEPIECE


def pieces_of(gguf: GGUF) -> SentencePieceModel:
    """The vocabulary of a file that has words. Raises CorruptFile where it makes no sense."""
    said = _under(gguf.values, WORDS)
    texts, scores, kinds = (_column(gguf, said, key) for key in ("tokens", "scores", "token_type"))
    if not len(texts) == len(scores) == len(kinds):
        raise _bad_words(gguf, f"{len(texts)}, {len(scores)} and {len(kinds)}")
    # Tokens that a user defined are written with plain spaces and the lowest of all scores, where
    # SentencePiece has its own sign for a space and a score of 0.
    for n, kind in enumerate(kinds):
        if kind == PieceKind.USER_DEFINED:
            texts[n], scores[n] = str(texts[n]).replace(" ", SPACE), 0.0
    unknown = _id(said, "unknown")
    pieces = SentencePieceModel(
        algorithm=BPE,
        texts=tuple(texts),
        scores=tuple(scores),
        kinds=tuple(kinds),
        unknown=0 if unknown is None else unknown,
        bos=_id(said, "bos") if said.get("add_bos_token", True) else None,
        eos=_id(said, "eos") if said.get("add_eos_token", False) else None,
        byte_fallback=PieceKind.BYTE in kinds,
        leading_space=said.get("add_space_prefix", True) is True,
    )
    return checked(pieces, str(gguf.path))


def _query_scalar(own: Mapping[str, Value]) -> Value | None:
    """The number whose root the queries are divided by."""
    width, heads = own.get("embedding_length"), own.get("attention.head_count")
    largest = own.get("block_count") == LAYERS_OF_27B
    if largest and isinstance(width, int) and isinstance(heads, int) and heads:
        return width // heads
    return own.get("attention.key_length")


def _column(gguf: GGUF, said: Mapping[str, Value], key: str) -> list[Any]:
    """A copy of one of the lists that make a vocabulary."""
    column = said.get(key)
    if not isinstance(column, list):
        raise _bad_words(gguf, f"no list of {key}")
    return list(column)


def _id(said: Mapping[str, Value], name: str) -> int | None:
    number = said.get(f"{name}_token_id")
    return number if isinstance(number, int) else None


def _under(values: Mapping[str, Value], start: str) -> dict[str, Value]:
    return {key.removeprefix(start): v for key, v in values.items() if key.startswith(start)}


def _bad_words(gguf: GGUF, got: str) -> CorruptFile:
    return corrupt(gguf.path, "a vocabulary has as many tokens as scores and types", got)
