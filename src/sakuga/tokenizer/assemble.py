"""A SentencePiece vocabulary -> a tokenizer that cuts as SentencePiece does.

It has the form that transformers gives it (GemmaTokenizer, XLMRobertaTokenizer), so its ids and
offsets are those of the tokenizer.json that is published beside the same model.
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

from sakuga.tokenizer.sentencepiece import BPE, SPACE, Kind, Pieces


def assemble(pieces: Pieces) -> Tokenizer:
    """The tokenizer of a vocabulary. Raises whatever the library says of one that makes none."""
    inner = Tokenizer(_cutter(pieces))
    _prepare(inner, pieces)
    own = {each.text for each in pieces.added}
    inner.add_tokens(
        [
            AddedToken(text, normalized=False, special=kind != Kind.USER_DEFINED)
            for text, kind in zip(pieces.texts, pieces.kinds, strict=True)
            if kind in (Kind.UNKNOWN, Kind.CONTROL, Kind.USER_DEFINED) and text not in own
        ]
    )
    for each in pieces.added:
        token = AddedToken(
            each.text, normalized=each.normalised, special=each.special,
            single_word=each.single_word, lstrip=each.left_space, rstrip=each.right_space,
        )  # fmt: skip
        inner.add_tokens([token])
        if inner.token_to_id(each.text) != each.id:
            raise ValueError(f"{each.text!r} is to be {each.id}, which it cannot be")
    first, last = (None if n is None else pieces.texts[n] for n in (pieces.bos, pieces.eos))
    inner.post_processor = processors.TemplateProcessing(
        single=[text for text in (first, "$A", last) if text],
        special_tokens=[(text, inner.token_to_id(text)) for text in (first, last) if text],
    )
    return inner


def _cutter(pieces: Pieces) -> models.Model:
    """The algorithm with its vocabulary."""
    if pieces.model == BPE:
        return models.BPE(
            {text: number for number, text in enumerate(pieces.texts)},
            _merges(pieces),
            unk_token=pieces.texts[pieces.unknown],
            fuse_unk=True,
            byte_fallback=pieces.byte_fallback,
        )
    listed = list(zip(pieces.texts, pieces.scores, strict=True))
    return models.Unigram(listed, pieces.unknown, pieces.byte_fallback)


def _merges(pieces: Pieces) -> list[tuple[str, str]]:
    """Which pairs join, first ones first: those whose whole has the highest score.

    SentencePiece stores no pairs: any two pieces that make a third may join. Where several
    make the same, the longer first half goes first, as in transformers' generate_merges.
    """
    scores = dict(zip(pieces.texts, pieces.scores, strict=True))
    found = [
        (score, at, len(text) - at, text)
        for text, score in scores.items()
        for at in range(1, len(text))
        if text[:at] in scores and text[at:] in scores
    ]
    found.sort(key=lambda each: each[:3], reverse=True)
    return [(text[:at], text[at:]) for _, at, _, text in found]


def _prepare(inner: Tokenizer, pieces: Pieces) -> None:
    """What happens to a text before it is cut, and to pieces that are put together again."""
    steps: list[normalizers.Normalizer] = []
    if pieces.charsmap:
        steps.append(normalizers.Precompiled(pieces.charsmap))
    if pieces.model != BPE and pieces.single_spaces and pieces.leading_space:
        # Word by word, as every XLM-RoBERTa's tokenizer.json says.
        inner.pre_tokenizer = pre_tokenizers.Sequence(
            [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Metaspace(SPACE, "always")]
        )
        inner.decoder = decoders.Metaspace(SPACE, "always")
    else:
        if pieces.single_spaces:
            steps += [normalizers.Replace(Regex(" {2,}"), " "), normalizers.Strip()]
        if pieces.leading_space:
            steps.append(normalizers.Prepend(SPACE))
        steps.append(normalizers.Replace(" ", SPACE))
        back = [decoders.Replace(SPACE, " "), decoders.ByteFallback(), decoders.Fuse()]
        first = [decoders.Strip(" ", 1, 0)] if pieces.leading_space else []
        inner.decoder = decoders.Sequence([*back, *first])
    if steps:
        inner.normalizer = normalizers.Sequence(steps) if len(steps) > 1 else steps[0]
