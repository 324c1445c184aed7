"""The prompts the embedded model learns from."""

from random import Random

import numpy as np
import pytest

from sakuga.chibi.prompts import CAREFUL, CAREFUL_FLAT, habits, joined, write_prompt
from sakuga.chibi.scene import random_scene
from sakuga.chibi.tokenizer import train_tokenizers
from sakuga.chibi.vocabulary import meaning, spelled
from sakuga.prompt.canonical import canonical
from sakuga.prompt.document import read


def scenes(count: int, seed: int = 0):
    rng = np.random.default_rng(seed)
    return [random_scene(rng) for _ in range(count)]


def test_a_careful_prompt_is_in_canonical_form() -> None:
    for i, scene in enumerate(scenes(60)):
        text = joined(write_prompt(scene, Random(i), CAREFUL))
        assert canonical(read(text)) == text


def test_a_careful_prompt_says_everything_about_every_character() -> None:
    for i, scene in enumerate(scenes(40)):
        pieces = write_prompt(scene, Random(i), CAREFUL)
        for owner, character in enumerate(scene.characters):
            text = joined([p for p in pieces if p.owner == owner])
            words = text.replace("<", " ").replace(">", ", ").replace("\n", " ").split(",")
            said = {pair for word in words for tag in word.split() for pair in meaning(tag)}
            for slot in ("hair_color", "hair_style", "eye_color", "garment", "garment_color"):
                assert (slot, getattr(character, slot)) in said


@pytest.mark.parametrize("form", ["xml", "tags", "sentences"])
def test_every_form_is_written_and_pieces_join_to_the_text(form: str) -> None:
    rng = Random(1)
    found = [w for w in (habits(rng) for _ in range(300)) if w.form == form]
    assert found
    for scene, writer in zip(scenes(30), found, strict=False):
        pieces = write_prompt(scene, rng, writer)
        assert joined(pieces).strip()
        assert ("<character_1>" in joined(pieces)) == (form == "xml")


def test_flat_tags_are_a_fifth_to_three_tenths_of_all_prompts() -> None:
    rng = Random(0)
    share = sum(habits(rng).form != "xml" for _ in range(4000)) / 4000
    assert 0.2 <= share <= 0.3


def test_flat_prompts_know_no_markup() -> None:
    for i, scene in enumerate(scenes(20)):
        assert "<" not in joined(write_prompt(scene, Random(i), CAREFUL_FLAT))


def test_tokenizers_take_any_text_back_and_forth() -> None:
    rng = Random(0)
    texts = [joined(write_prompt(s, rng, habits(rng))) for s in scenes(400)]
    gemma, jina = train_tokenizers(texts, 1536)
    for text in ("blue_hair, 日本語 & >_<", "<pad> <bos>", "é\U0001f600", "", *texts[:20]):
        ids = gemma.encode(text).ids
        assert ids[0] == gemma.token_to_id("<bos>") == 2
        assert gemma.decode(ids[1:]) == text
        assert jina.encode(text).ids == [0, *ids[1:], 2]
    assert len(gemma.encode("blue_hair").ids) == 2
    assert spelled("Blue  Hair") == "blue_hair"
