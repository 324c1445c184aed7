"""A SentencePiece model -> a Hugging Face tokenizer with the same ids.

It is built as transformers builds it (GemmaTokenizer, XLMRobertaTokenizer), so ids and offsets
are also those of the tokenizer.json that is published beside the same model.
"""

from __future__ import annotations

from tokenizers import (
    AddedToken,
    Regex,
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
)

from sakuga.tokenizer.sentencepiece import BPE, SPACE, PieceKind, SentencePieceModel


def assemble(model: SentencePieceModel) -> Tokenizer:
    """The tokenizer of a model. Raises whatever the tokenizers library does where it makes none."""
    inner = Tokenizer(_algorithm(model))
    _set_pipeline(inner, model)
    own = {each.text for each in model.added}
    inner.add_tokens(
        [
            AddedToken(text, normalized=False, special=kind != PieceKind.USER_DEFINED)
            for text, kind in zip(model.texts, model.kinds, strict=True)
            if kind in (PieceKind.UNKNOWN, PieceKind.CONTROL, PieceKind.USER_DEFINED)
            and text not in own
        ]
    )
    for each in model.added:
        token = AddedToken(
            each.text, normalized=each.normalised, special=each.special,
            single_word=each.single_word, lstrip=each.left_space, rstrip=each.right_space,
        )  # fmt: skip
        inner.add_tokens([token])
        if inner.token_to_id(each.text) != each.id:
            raise ValueError(f"{each.text!r} is to be {each.id}, which it cannot be")
    first, last = (None if n is None else model.texts[n] for n in (model.bos, model.eos))
    inner.post_processor = processors.TemplateProcessing(
        single=[text for text in (first, "$A", last) if text],
        special_tokens=[(text, inner.token_to_id(text)) for text in (first, last) if text],
    )
    return inner


def _algorithm(model: SentencePieceModel) -> models.Model:
    """BPE or Unigram, with the vocabulary."""
    if model.algorithm == BPE:
        return models.BPE(
            {text: number for number, text in enumerate(model.texts)},
            _merges(model),
            unk_token=model.texts[model.unknown],
            fuse_unk=True,
            byte_fallback=model.byte_fallback,
        )
    listed = list(zip(model.texts, model.scores, strict=True))
    return models.Unigram(listed, model.unknown, model.byte_fallback)


def _merges(model: SentencePieceModel) -> list[tuple[str, str]]:
    """The pairs of pieces that BPE merges, in order: those with the best score of the whole first.

    SentencePiece stores no merges: any two pieces that make a third may be merged. Of pairs that
    make the same piece, the one with the longer first half comes first, as in transformers'
    generate_merges.
    """
    scores = dict(zip(model.texts, model.scores, strict=True))
    found = [
        (score, at, len(text) - at, text)
        for text, score in scores.items()
        for at in range(1, len(text))
        if text[:at] in scores and text[at:] in scores
    ]
    found.sort(key=lambda each: each[:3], reverse=True)
    return [(text[:at], text[at:]) for _, at, _, text in found]


def _set_pipeline(inner: Tokenizer, model: SentencePieceModel) -> None:
    """Set the steps around the algorithm: normalizer, pre-tokenizer and decoder."""
    steps: list[normalizers.Normalizer] = []
    if model.charsmap:
        steps.append(normalizers.Precompiled(model.charsmap))
    if model.algorithm != BPE and model.single_spaces and model.leading_space:
        # Word by word, as every XLM-RoBERTa's tokenizer.json says.
        inner.pre_tokenizer = pre_tokenizers.Sequence(
            [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Metaspace(SPACE, "always")]
        )
        inner.decoder = decoders.Metaspace(SPACE, "always")
    else:
        if model.single_spaces:
            steps += [normalizers.Replace(Regex(" {2,}"), " "), normalizers.Strip()]
        if model.leading_space:
            steps.append(normalizers.Prepend(SPACE))
        steps.append(normalizers.Replace(" ", SPACE))
        back = [decoders.Replace(SPACE, " "), decoders.ByteFallback(), decoders.Fuse()]
        first = [decoders.Strip(" ", 1, 0)] if model.leading_space else []
        inner.decoder = decoders.Sequence([*back, *first])
    if steps:
        inner.normalizer = normalizers.Sequence(steps) if len(steps) > 1 else steps[0]
