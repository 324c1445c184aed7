"""Weights and parts in tokens: what an encoder reads besides, and what becomes of its features."""

from __future__ import annotations

import pytest
import torch
from tiny import TINY

from sakuga.api.marks import Mark, marks_of
from sakuga.engine.encode import joined, mean_of, weighed
from sakuga.engine.readings import MOST_WEIGHTS, Ids, Parts, Reading, Weighing, read_tokens
from sakuga.errors import RequestError
from sakuga.model.layers import Segments
from sakuga.model.nextdit import NextDiT
from sakuga.model.text import GemmaEncoder, JinaEncoder
from sakuga.tokenizer.tokens import Tokens

# "S ab, cd\nef, gh": a begin, a system prompt, tags of two letters, and an end.
TEXT = "S ab, cd\nef, gh"
WORDS = (("", 2), ("S ", 5), ("ab", 10), (", ", 4), ("cd", 11), ("\n", 6), ("ef", 12), (", ", 4),
         ("gh", 13), ("", 1))  # fmt: skip
BLEND, EMPTY, OFF = (Weighing(kind, 0) for kind in ("interpolate", "empty", "off"))


def tokens() -> Tokens:
    at, offsets = 0, []
    for word, _ in WORDS:
        offsets.append((at, at + len(word)) if word else (0, 0))
        at += len(word)
    return Tokens(tuple(number for _, number in WORDS), tuple(offsets))


def heavy(word: str, weight: float = 1.5) -> Mark:
    start = TEXT.index(word)
    return Mark("prompt", start, start + len(word), weight)


GROUPS = (Mark("prompt", 2, 9), Mark("prompt", 9, 15))
ENCODERS = {"gemma": (GemmaEncoder(TINY.gemma), joined), "jina": (JinaEncoder(TINY.jina), mean_of)}


def features(name: str, reading: Reading) -> dict[Ids, torch.Tensor]:
    encoder = ENCODERS[name][0].eval().requires_grad_(False)
    return {each: encoder(torch.tensor([each]))[0] for each in reading.texts}


@pytest.mark.parametrize("name", ENCODERS)
@pytest.mark.parametrize("kind", [BLEND, EMPTY, OFF])
def test_without_weights_nothing_is_read_besides_and_no_bit_changes(name, kind) -> None:
    plain = read_tokens(tokens(), (), kind)
    assert plain.texts == (tokens().ids,)
    assert read_tokens(tokens(), (heavy("cd", 1.0),), kind) == plain
    assert read_tokens(tokens(), (heavy("cd"),), OFF) == plain
    known = features(name, plain)
    assert weighed(plain, known, ENCODERS[name][1]) is known[tokens().ids]


def test_a_tag_is_held_against_the_text_without_it() -> None:
    reading = read_tokens(tokens(), (heavy("cd"),), BLEND)
    (contrast,) = reading.contrasts
    ids = tokens().ids
    assert contrast.parts.texts == (ids[:4] + ids[5:],)
    assert contrast.places == (0, 1, 2, 3, 3, 4, 5, 6, 7, 8)
    known = features("gemma", reading)
    full, without = (known[text] for text in reading.texts)
    got = weighed(reading, known, joined)
    assert torch.equal(got[:4], full[:4])  # what is before it cannot know of it
    expected = full[6] + 0.5 * (full[6] - without[5])
    torch.testing.assert_close(got[6], expected)
    torch.testing.assert_close(got[4], full[4] + 0.5 * (full[4] - without[3]))


@pytest.mark.parametrize("name", ENCODERS)
def test_at_nothing_the_rest_is_as_if_the_tag_were_not_there(name) -> None:
    reading = read_tokens(tokens(), (heavy("cd", 0.0),), BLEND)
    known = features(name, reading)
    without = known[reading.texts[1]]
    got = weighed(reading, known, ENCODERS[name][1])
    if name == "gemma":
        got = torch.cat((got[:4], got[5:]))
    torch.testing.assert_close(got, without, rtol=1e-4, atol=1e-5)


def test_tags_of_one_weight_are_taken_away_together_and_others_apart() -> None:
    marks = (heavy("ab", 1.2), heavy("gh", 1.2), heavy("cd", 0.5))
    reading = read_tokens(tokens(), marks, BLEND)
    assert [len(one.parts.texts[0]) for one in reading.contrasts] == [9, 8]
    assert [one.share for one in reading.contrasts] == pytest.approx([-0.5, 0.2])


def test_weights_of_a_text_are_few() -> None:
    text = Tokens(tuple(range(40)), tuple((at, at + 1) for at in range(40)))
    marks = [Mark("prompt", at, at + 1, 1 + at / 100) for at in range(1, MOST_WEIGHTS + 2)]
    assert len(read_tokens(text, marks[:-1], BLEND).contrasts) == MOST_WEIGHTS
    with pytest.raises(RequestError, match="17"):
        read_tokens(text, marks, BLEND)


def test_an_empty_text_is_as_long_and_moves_the_tag_alone() -> None:
    reading = read_tokens(tokens(), (heavy("cd"),), EMPTY)
    assert reading.texts[1] == (2, *(0,) * 9)
    known = features("gemma", reading)
    full, empty = (known[text] for text in reading.texts)
    got = weighed(reading, known, joined)
    assert torch.equal(torch.cat((got[:4], got[5:])), torch.cat((full[:4], full[5:])))
    torch.testing.assert_close(got[4], empty[4] + 1.5 * (full[4] - empty[4]))


def test_parts_share_what_stands_before_them_and_it_counts_once() -> None:
    reading = read_tokens(tokens(), GROUPS, OFF)
    assert reading.parts == Parts(((2, 5, 10, 4, 11, 6, 1), (2, 5, 12, 4, 13, 1)), 2, 1)
    assert reading.parts.length == len(tokens())
    gemma = Tokens(tokens().ids[:-1], tokens().offsets[:-1])
    reading = read_tokens(gemma, GROUPS, OFF)
    assert reading.parts.length == len(gemma)
    known = features("gemma", reading)
    got = weighed(reading, known, joined)
    whole = ENCODERS["gemma"][0](torch.tensor([gemma.ids]))[0]
    assert got.shape == whole.shape
    torch.testing.assert_close(got[:6], whole[:6])  # the first part reads as it did
    assert not torch.allclose(got[6:], whole[6:])  # the second knows nothing of the first
    assert torch.equal(got[6:], known[reading.texts[1]][2:])


def test_the_vector_of_parts_is_the_mean_of_all_their_tokens() -> None:
    reading = read_tokens(tokens(), GROUPS, OFF)
    known = features("jina", reading)
    first, second = (known[text] for text in reading.texts)
    torch.testing.assert_close(weighed(reading, known, mean_of), (7 * first + 6 * second) / 13)


def test_parts_may_have_weights() -> None:
    reading = read_tokens(tokens(), (*GROUPS, heavy("cd", 0.0)), BLEND)
    known = features("gemma", reading)
    got = weighed(reading, known, joined)
    assert got.shape[0] == reading.parts.length
    (contrast,) = reading.contrasts
    assert [len(text) for text in contrast.parts.texts] == [6, 6]


def test_what_is_cut_off_is_no_part() -> None:
    short = tokens()[:5]
    assert read_tokens(short, GROUPS, OFF).texts == (short.ids,)
    assert read_tokens(short, (heavy("gh"),), BLEND).contrasts == ()


def test_a_text_that_is_all_weight_still_begins() -> None:
    words = Tokens((3, 4), ((0, 1), (1, 2)))
    reading = read_tokens(words, (Mark("prompt", 0, 2, 2.0),), BLEND)
    assert reading.contrasts[0].parts.texts == ((3,),)
    assert reading.contrasts[0].places == (0, 0)


def test_a_mark_is_written_and_read() -> None:
    marks = (Mark("prompt", 12, 20, 1.2), Mark("negative", 0, 98), Mark("prompt", 1, 4, 0.0))
    assert [Mark.parse(str(one)) for one in marks] == list(marks)
    assert marks_of(map(str, marks), "prompt") == (marks[2], marks[0])


@pytest.mark.parametrize(
    "text", ["", "prompt", "prompt 3-3", "other 1-2", "prompt 1-2 x", "prompt 1-2 x99"]
)
def test_what_is_no_mark_is_refused(text: str) -> None:
    with pytest.raises(RequestError):
        Mark.parse(text)


def test_scaling_features_would_do_nothing() -> None:
    """Why weights are no factors, as A1111 has them: the transformer norms each token first."""
    torch.manual_seed(0)
    transformer = NextDiT(TINY.transformer).eval().requires_grad_(False)
    tokens = torch.randn(5, TINY.transformer.cap_feat_dim)
    scaled = tokens * torch.tensor([1.0, 1.0, 1.6, 1.0, 0.5])[:, None]
    first, second = (transformer.caption(each, Segments((5,))) for each in (tokens, scaled))
    torch.testing.assert_close(first, second, rtol=1e-3, atol=1e-4)
