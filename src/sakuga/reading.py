"""The texts of a request, as each encoder reads them: strings and token ids, before any network."""

from __future__ import annotations

import re
from dataclasses import dataclass

from sakuga.model.spec import ModelSpec
from sakuga.prompt.canonical import encoder_texts
from sakuga.prompt.tokens import Tokenizer, Tokens
from sakuga.request import Request, SentTexts, TokenCounts, needs_negative


@dataclass(frozen=True, slots=True)
class Reading:
    """The texts of a request as they are sent, how long they are, and their token ids.

    `ids` by stage, gemma and jina: those of the prompt, then those of the negative if the
    guidance looks at what that encoder makes of it.
    """

    sent: SentTexts
    counts: TokenCounts
    ids: dict[str, tuple[tuple[int, ...], ...]]


def read_texts(
    request: Request, spec: ModelSpec, gemma: Tokenizer, jina: Tokenizer
) -> Reading:
    """Both texts of a resolved request as each encoder will see them. Raises PromptRefused."""
    drawing = spec.drawing
    texts = encoder_texts(
        request.prompt,
        request.negative,
        system_xml=drawing.system_xml,
        system_text=drawing.system_text,
        system=request.system,
        verbatim=request.verbatim,
        mode=request.text_mode,
    )
    positive, negative = (
        (gemma.encode(side.gemma), jina.encode(side.jina))
        for side in (texts.positive, texts.negative)
    )
    cut = request.max_tokens
    trained = spec.gemma.trained_tokens
    counts = TokenCounts(
        gemma=len(positive[0].ids[:cut]),
        jina=len(positive[1].ids),
        negative_gemma=len(negative[0].ids[:cut]),
        negative_jina=len(negative[1].ids),
        trained=trained,
        past=_word_at(texts.positive.gemma, positive[0], trained),
    )
    sent = SentTexts(
        texts.positive.gemma, texts.positive.jina, texts.negative.gemma, texts.negative.jina
    )
    sides = (positive, negative) if needs_negative(request) else (positive,)
    pooled = sides[:1] if request.uncond == "keep-pooled" else sides
    return Reading(sent, counts, {
        "gemma": tuple(tuple(side[0].ids[:cut]) for side in sides),
        "jina": tuple(tuple(side[1].ids) for side in pooled),
    })  # fmt: skip


def _word_at(text: str, tokens: Tokens, limit: int) -> str | None:
    """The word of `text` that holds the first token past `limit`, if there is one."""
    if len(tokens.ids) <= limit:
        return None
    start, _ = tokens.offsets[limit]
    start -= len(re.split(r"\s", text[:start])[-1])
    return re.split(r"\s", text[start:].lstrip(), maxsplit=1)[0]
