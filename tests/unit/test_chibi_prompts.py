"""The prompts the embedded model learns from."""

from random import Random

import numpy as np
import pytest

from effort import examples
from sakuga.chibi.languages import PHRASES
from sakuga.chibi.prompts import (
    CAREFUL,
    CAREFUL_FLAT,
    Habits,
    count_tags,
    habits,
    joined,
    write_prompt,
)
from sakuga.chibi.prose import LANGUAGES, sentences
from sakuga.chibi.scene import held_out, random_scene
from sakuga.chibi.strangers import stranger
from sakuga.chibi.tokenizer import train_tokenizers
from sakuga.chibi.vocabulary import CHARACTER_SLOTS, TAGS, WORDS, meaning, spelled
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


def test_every_form_gap_and_language_has_its_share_of_all_prompts() -> None:
    rng = Random(0)
    found = [habits(rng) for _ in range(4000)]
    assert 0.35 <= sum(each.form == "xml" for each in found) / 4000 <= 0.42
    assert 0.37 <= sum(each.form == "tags" for each in found) / 4000 <= 0.45
    assert sum(each.gap >= 0.5 for each in found) / 4000 >= 0.35
    for language in LANGUAGES:
        assert sum(each.language == language for each in found) / 4000 >= 0.2


def test_no_prompt_of_training_is_of_colours_that_are_held_out() -> None:
    rng = np.random.default_rng(3)
    for _ in range(examples(3000)):
        assert not any(map(held_out, random_scene(rng).characters))
        assert all(map(held_out, random_scene(rng, unseen=True).characters))


def test_a_flat_prompt_says_what_is_said_and_how_many_there_are() -> None:
    writer = Habits(form="tags", gap=0.7)
    for i, scene in enumerate(scenes(60)):
        text = joined(write_prompt(scene, Random(i), writer))
        assert len(scene.characters) == 1 or text.startswith(count_tags(scene)[0])
        pairs = {pair for tag in text.split(", ") for pair in meaning(tag)}
        drawn = {(slot, getattr(one, slot)) for one in scene.characters for slot in CHARACTER_SLOTS}
        drawn |= {("background", scene.background), ("lighting", scene.lighting)}
        assert pairs - drawn <= {("rim_light", "yes"), ("pose", "standing")}


def test_strangers_are_words_that_the_model_was_not_taught() -> None:
    rng = Random(2)
    words = {stranger(rng) for _ in range(500)}
    assert len(words) > 400
    assert not any(meaning(word) or word in WORDS for word in words)


@pytest.mark.parametrize("language", tuple(PHRASES))
def test_sentences_say_each_value_in_words_of_its_own(language: str) -> None:
    table = PHRASES[language]
    for slot in (*CHARACTER_SLOTS[:-1], "background", "lighting"):
        assert table[slot].keys() == TAGS[slot].keys()
        ways = [way for ways in table[slot].values() for way in ways.split("|") if way]
        assert len(ways) == len(set(ways))


@pytest.mark.parametrize("language", LANGUAGES)
def test_a_sentence_leaves_out_what_is_not_said(language: str) -> None:
    (scene,) = scenes(1)
    whole = "".join(text for text, _ in sentences(scene, Random(1), language, 0.0))
    bare = "".join(text for text, _ in sentences(scene, Random(1), language, 1.0))
    assert len(bare) < len(whole) / 2


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
