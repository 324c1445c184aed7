"""The embedded model's own tokenizers: byte-pair encoding in which a known tag is one token."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

from tokenizers import Regex, Tokenizer, decoders, pre_tokenizers, processors
from tokenizers.models import BPE
from tokenizers.trainers import BpeTrainer

# A tag of markup with the newline behind it, a comma with its space, a word, or anything else.
_UNITS = r"</?\w+>\n?|, ?|[\w\-]+|\s+|[^\w\s]"
_BYTES = tuple(f"<0x{byte:02X}>" for byte in range(256))

GEMMA_SPECIALS = ("<pad>", "<eos>", "<bos>", "<unk>")
JINA_SPECIALS = ("<s>", "<pad>", "</s>", "<unk>")


def train_tokenizers(texts: Iterable[str], vocab_size: int) -> tuple[Tokenizer, Tokenizer]:
    """Learn one vocabulary from `texts`; return it as Gemma and as Jina number their specials.

    Ids 0-3 are the specials, 4-259 the bytes that spell whatever no merge covers. The specials
    are known to the post-processor alone: a text that spells `<pad>` is read as text.
    """
    trainer = BpeTrainer(
        vocab_size=vocab_size - len(GEMMA_SPECIALS) - len(_BYTES),
        min_frequency=20,
        show_progress=False,
        limit_alphabet=600,
        initial_alphabet=[chr(code) for code in range(32, 127)],
    )
    draft = Tokenizer(BPE())
    draft.pre_tokenizer = _units()
    draft.train_from_iterator(texts, trainer)
    learned = draft.get_vocab()
    words = sorted(learned, key=learned.__getitem__)
    merges = _merges(draft)
    gemma = _build(GEMMA_SPECIALS, words, merges, "<bos> $A")
    jina = _build(JINA_SPECIALS, words, merges, "<s> $A </s>")
    return gemma, jina


def save_tokenizers(folder: Path, gemma: Tokenizer, jina: Tokenizer) -> None:
    """Write both where a Hugging Face checkpoint keeps them."""
    for name, tokenizer in (("tokenizer", gemma), ("tokenizer_2", jina)):
        (folder / name).mkdir(parents=True, exist_ok=True)
        tokenizer.save(str(folder / name / "tokenizer.json"))


def _units() -> pre_tokenizers.PreTokenizer:
    return pre_tokenizers.Split(Regex(_UNITS), behavior="isolated")


def _merges(draft: Tokenizer) -> list[tuple[str, str]]:
    return [tuple(pair) for pair in json.loads(draft.to_str())["model"]["merges"]]


def _build(
    specials: tuple[str, ...], words: list[str], merges: list[tuple[str, str]], template: str
) -> Tokenizer:
    vocab = {token: i for i, token in enumerate((*specials, *_BYTES, *words))}
    tokenizer = Tokenizer(BPE(vocab, merges, unk_token="<unk>", byte_fallback=True))
    tokenizer.pre_tokenizer = _units()
    tokenizer.decoder = decoders.Sequence([decoders.ByteFallback(), decoders.Fuse()])
    used = [token for token in specials if token in template.split()]
    tokenizer.post_processor = processors.TemplateProcessing(
        single=template, special_tokens=[(token, vocab[token]) for token in used]
    )
    return tokenizer
