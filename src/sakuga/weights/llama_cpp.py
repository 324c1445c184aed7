"""What llama.cpp writes into a GGUF file besides tensors: what model it is, and its words.

Source: llama.cpp, convert_hf_to_gguf.py, src/models/gemma2.cpp, src/models/gemma3.cpp and
src/llama-vocab.cpp.
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
# By architecture, the layers of the one size whose queries are not scaled by the width of a head.
LARGEST = {"gemma2": 46, "gemma3": 62}
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
    "attn_logit_softcapping": "attn_logit_softcapping",
}


def metadata_of(gguf: GGUF) -> dict[str, str]:
    """Named values as text, lists left out; "config" is what they say of the model, as JSON."""
    plain = {key: str(v) for key, v in gguf.values.items() if not isinstance(v, list)}
    config = gemma_config(gguf.values)
    return plain if config is None else plain | {"config": json.dumps(config)}


def gemma_config(values: Mapping[str, Value]) -> dict[str, Any] | None:
    """What a file of Gemma 2 or 3 says of its model, in the words of transformers' config.

    None for another architecture. What llama.cpp assumes where a file is silent is assumed
    here too.
    """
    architecture = values.get("general.architecture")
    if not isinstance(architecture, str) or architecture not in LARGEST:
        return None
    own = _under(values, f"{architecture}.")
    rotary = {"gemma2": _plain_rotary, "gemma3": _rotary_by_kind}[architecture]
    return {
        "model_type": architecture,
        **{ours: own[theirs] for theirs, ours in GEMMA.items() if theirs in own},
        "query_pre_attn_scalar": _query_scalar(own, LARGEST[architecture]),
        "rope_parameters": rotary(own),
    }


def _plain_rotary(own: Mapping[str, Value]) -> dict[str, Any]:
    """Of Gemma 2, whose layers all turn alike."""
    return {"rope_type": "default", "rope_theta": own.get("rope.freq_base", 10_000.0)}


def _rotary_by_kind(own: Mapping[str, Value]) -> dict[str, Any]:
    """Of Gemma 3, for layers that see all and for the others."""
    full = {"rope_type": "default", "rope_theta": own.get("rope.freq_base", 1_000_000.0)}
    if own.get("rope.scaling.type") == "linear":
        full |= {"rope_type": "linear", "factor": own.get("rope.scaling.factor", 1.0)}
    local = {"rope_type": "default", "rope_theta": own.get("rope.freq_base_swa", 10_000.0)}
    return {"full_attention": full, "sliding_attention": local}


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


def _query_scalar(own: Mapping[str, Value], layers: int) -> Value | None:
    """The number whose root the queries are divided by; layers: of the largest size."""
    width, heads = own.get("embedding_length"), own.get("attention.head_count")
    largest = own.get("block_count") == layers
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
