"""SentencePiece models trained on a few lines, with the settings of Gemma's and XLM-RoBERTa's."""

from __future__ import annotations

import io
from functools import lru_cache
from pathlib import Path
from typing import Any

import sentencepiece

from sakuga.tokenizer.sentencepiece import PieceKind, SentencePieceModel

LINES = [
    *(
        f"<character_{i}><n>a{i}</n><appearance>blue_hair, red eyes, long hair, 青い髪 {i * 37}"
        f"</appearance></character_{i}>"
        for i in range(60)
    ),
    *["the quick brown fox jumps over the lazy dog and, again, the fox"] * 5,
    *["masterpiece, best quality, 1girl, solo"] * 5,
]
TEXTS = [
    "", " ", "  ", "a", "blue_hair, red eyes", "a  b   c", "  leading and trailing  ",
    "\t\tx\n\n\ny", "日本語の髪 😀👩\u200d🎤", "ﾊﾝｶｸ\u3000ｶﾀｶﾅ ﬁ é e\u0301 ①",
    "\u00a0nbsp\u2003x", "\x00\x07", "x" * 50, "aaaaaaaaa", "qq ҖҖ zz",
    "<start_of_turn>x<bos></s>\n", *LINES[:2], " ".join(LINES),
]  # fmt: skip


@lru_cache(maxsize=16)
def _trained(settings: tuple[tuple[str, Any], ...]) -> bytes:
    model = io.BytesIO()
    plain = {name: list(v) if isinstance(v, tuple) else v for name, v in settings}
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(LINES), model_writer=model, minloglevel=2, **plain
    )
    return model.getvalue()


def trained(**settings: Any) -> bytes:
    """The bytes of a model; nothing but its settings tells one training from another."""
    return _trained(tuple(sorted(settings.items())))


def gemma_model() -> bytes:
    """As Gemma's: byte pairs and bytes, no leading space, spaces kept, some pieces by hand."""
    return trained(
        model_type="bpe", vocab_size=480, byte_fallback=True, split_digits=True,
        allow_whitespace_only_pieces=True, normalization_rule_name="identity",
        add_dummy_prefix=False, remove_extra_whitespaces=False,
        pad_id=0, eos_id=1, bos_id=2, unk_id=3, pad_piece="<pad>", eos_piece="<eos>",
        bos_piece="<bos>", unk_piece="<unk>",
        user_defined_symbols=("<mask>", "\n", "\n\n", "▁▁", "▁▁▁", "<start_of_turn>"),
    )  # fmt: skip


def jina_model() -> bytes:
    """As XLM-RoBERTa's: Unigram, all that SentencePiece does unless told otherwise."""
    return trained(model_type="unigram", vocab_size=180)


def gemma_json(file: Path) -> Path:
    """The tokenizer.json that transformers makes of `gemma_model`."""
    from tokenizers import processors
    from transformers import AddedToken, GemmaTokenizer
    from transformers.convert_slow_tokenizer import generate_merges

    own = sentencepiece.SentencePieceProcessor(model_proto=gemma_model())
    scores = [(own.id_to_piece(n), own.get_score(n)) for n in range(own.vocab_size())]
    vocab = {piece: n for n, (piece, _) in enumerate(scores)}
    made = GemmaTokenizer(vocab=vocab, merges=generate_merges(vocab, scores))
    made.add_tokens([AddedToken(text, normalized=False) for text in list(vocab)[4:10]])
    made.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single="<bos> $A", special_tokens=[("<bos>", 2)]
    )
    made.backend_tokenizer.save(str(file))
    return file


def jina_json(file: Path, charsmap: bytes) -> Path:
    """The tokenizer.json that transformers makes of `jina_model`, whose charsmap is given."""
    from transformers import AddedToken, XLMRobertaTokenizer

    own = sentencepiece.SentencePieceProcessor(model_proto=jina_model())
    vocab = [(text, 0.0) for text in ("<s>", "<pad>", "</s>", "<unk>")]
    vocab += [(own.id_to_piece(n), own.get_score(n)) for n in range(3, own.vocab_size())]
    made = XLMRobertaTokenizer(
        vocab=[*vocab, ("<mask>", 0.0)], _spm_precompiled_charsmap=charsmap,
        mask_token=AddedToken("<mask>", lstrip=True, normalized=False, special=True),
    )  # fmt: skip
    made.backend_tokenizer.save(str(file))
    return file


def gguf_words(pieces: SentencePieceModel) -> dict[str, Any]:
    """A vocabulary as llama.cpp writes it."""
    own = [kind == PieceKind.USER_DEFINED for kind in pieces.kinds]
    return {
        "tokenizer.ggml.model": "llama",
        "tokenizer.ggml.tokens": [
            text.replace("▁", " ") if mine else text
            for text, mine in zip(pieces.texts, own, strict=True)
        ],
        "tokenizer.ggml.scores": [
            -1000.0 if mine else float(score)
            for score, mine in zip(pieces.scores, own, strict=True)
        ],
        "tokenizer.ggml.token_type": [
            int(PieceKind.CONTROL if kind == PieceKind.UNKNOWN else kind) for kind in pieces.kinds
        ],
        "tokenizer.ggml.bos_token_id": 2,
        "tokenizer.ggml.eos_token_id": 1,
        "tokenizer.ggml.unknown_token_id": 3,
        "tokenizer.ggml.add_bos_token": True,
        "tokenizer.ggml.add_eos_token": False,
        "tokenizer.ggml.add_space_prefix": False,
    }
