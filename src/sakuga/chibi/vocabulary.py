"""What the small model can draw: slots, their values, and the tags that name them.

A *slot* is something a picture decides once per character or once per scene (`hair_color`);
a *value* is one choice (`blue`); a *tag* is how prompts say it (`blue_hair`). Every value has
one canonical tag, written as Danbooru would, and synonyms. A garment and its colour share one
tag (`red_dress`); the garment's tag alone leaves the colour open.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import MappingProxyType

_HAIR_COLORS = {
    "black": (),
    "brown": ("brunette",),
    "blonde": ("blond_hair", "yellow_hair", "golden_hair"),
    "orange": ("ginger_hair",),
    "red": ("crimson_hair",),
    "pink": (),
    "purple": ("violet_hair",),
    "blue": ("dark_blue_hair",),
    "aqua": ("teal_hair", "cyan_hair", "light_blue_hair", "turquoise_hair"),
    "green": (),
    "white": (),
    "grey": ("gray_hair", "silver_hair"),
}
_EYE_COLORS = {
    "blue": (),
    "red": ("crimson_eyes",),
    "green": ("emerald_eyes",),
    "teal": ("aqua_eyes", "cyan_eyes", "turquoise_eyes"),
    "yellow": ("golden_eyes", "gold_eyes", "amber_eyes"),
    "purple": ("violet_eyes",),
    "brown": ("hazel_eyes",),
    "pink": (),
}
_GARMENTS = {
    "school_uniform": ("sailor_uniform", "serafuku", "sailor_suit"),
    "casual_jacket": ("jacket", "open_jacket"),
    "dress": ("sundress", "one_piece_dress"),
    "hoodie": ("hooded_sweatshirt",),
    "kimono": ("yukata",),
    "sweater": ("pullover", "turtleneck"),
    "t-shirt": ("shirt", "tshirt", "t_shirt", "tee"),
}
GARMENT_COLORS = ("red", "blue", "green", "yellow", "purple", "pink", "white", "black")

TAGS: Mapping[str, Mapping[str, tuple[str, ...]]] = MappingProxyType(
    {
        "gender": {
            "1girl": ("1girl", "girl", "female"),
            "1boy": ("1boy", "boy", "male"),
        },
        "hair_color": {c: (f"{c}_hair", *more) for c, more in _HAIR_COLORS.items()},
        "hair_style": {
            "long_twintails": (
                "long_twintails",
                "twintails",
                "twin_tails",
                "high_twintails",
            ),
            "short_pigtails": (
                "short_pigtails",
                "pigtails",
                "short_twintails",
                "low_pigtails",
            ),
            "long_hair": (
                "long_hair",
                "very_long_hair",
                "straight_hair",
                "long_straight_hair",
                "hime_cut",
            ),
            "short_hair": ("short_hair", "bob_cut", "bob", "very_short_hair"),
            "ponytail": ("ponytail", "high_ponytail", "side_ponytail", "long_ponytail"),
            "twin_braids": ("twin_braids", "braids", "braided_hair", "braid"),
            "double_bun": ("double_bun", "hair_buns", "hair_bun", "bun", "twin_buns"),
            "spiky_hair": ("spiky_hair", "messy_hair", "wild_hair"),
        },
        "eye_color": {c: (f"{c}_eyes", *more) for c, more in _EYE_COLORS.items()},
        "garment": {g: (g, *more) for g, more in _GARMENTS.items()},
        "garment_color": dict.fromkeys(GARMENT_COLORS, ()),
        "expression": {
            "smile": ("smile", "smiling", "happy", "gentle_smile", "light_smile"),
            "open_mouth": ("open_mouth", "laughing", ":d", "grin"),
            "sad": ("sad", "frown", "teary_eyes", "crying", "tears"),
            "angry": ("angry", "annoyed", "glaring", "pout"),
            "surprised": ("surprised", "shocked", ":o"),
        },
        "pose": {
            "standing": ("standing", "arms_at_sides"),
            "dynamic_pose": ("dynamic_pose", "action_pose", "jumping", "running"),
            "arms_up": ("arms_up", "raised_arms", "cheering"),
            "waving": ("waving", "hand_up", "raised_hand"),
            "hands_on_hips": ("hands_on_hips", "hand_on_hip"),
            "sitting": ("sitting", "seated"),
        },
        "accessory": {
            "none": ("no_accessories",),
            "glasses": ("glasses", "eyewear"),
            "hair_bow": ("hair_bow", "ribbon", "hair_ribbon", "bow"),
            "cat_ears": ("cat_ears", "nekomimi", "animal_ears"),
            "headphones": ("headphones", "headset"),
            "flower": ("hair_flower", "flower"),
            "beret": ("beret", "hat"),
            "scarf": ("scarf", "muffler"),
        },
        "position": {
            "left": ("left", "left_side", "far_left"),
            "center_left": ("center_left", "middle_left"),
            "center": ("center", "middle", "center_front", "centre"),
            "center_right": ("center_right", "middle_right"),
            "right": ("right", "right_side", "far_right"),
            "background_left": ("background_left", "back_left"),
            "background_right": ("background_right", "back_right"),
            "foreground": ("foreground", "front", "foreground_center"),
        },
        "background": {
            "cityscape_at_dusk": (
                "cityscape_at_dusk",
                "cityscape",
                "city",
                "dusk_city",
            ),
            "beach": ("beach", "ocean", "seaside", "sea"),
            "forest": ("forest", "woods", "trees"),
            "classroom": ("classroom", "school", "indoors"),
            "night_sky": ("night_sky", "starry_sky", "stars", "night"),
            "cherry_blossoms": ("cherry_blossoms", "sakura", "spring"),
            "snow": ("snow", "snowy", "winter"),
            "blue_sky": (
                "blue_sky",
                "sky",
                "clouds",
                "outdoors",
                "field",
                "grass",
                "meadow",
            ),
            "simple_background": ("simple_background", "white_background", "plain"),
        },
        "lighting": {
            "studio_lighting": ("studio_lighting", "bright", "even_lighting"),
            "soft_lighting": ("soft_lighting", "soft_light"),
            "golden_hour": ("golden_hour", "sunset_light", "warm_lighting", "sunlight"),
            "moonlight": ("moonlight", "night_lighting", "cool_lighting"),
        },
        "rim_light": {"yes": ("rim_light", "rim_lighting", "backlighting"), "no": ()},
    }
)
"""slot -> value -> tags, the canonical one first (a garment's colour has none of its own)."""

CHARACTER_SLOTS = (
    "gender",
    "hair_color",
    "hair_style",
    "eye_color",
    "garment",
    "garment_color",
    "expression",
    "pose",
    "accessory",
    "position",
)
SCENE_SLOTS = ("background", "lighting", "rim_light")

VALUES: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {slot: tuple(values) for slot, values in TAGS.items()}
)
"""slot -> its values in code order (see `scene.to_codes`)."""

GENERAL = frozenset(
    {
        "standing",
        "arms_at_sides",
        "long_hair",
        "very_long_hair",
        "straight_hair",
        "short_hair",
        "very_short_hair",
        "shirt",
        "jacket",
        "sky",
        "outdoors",
        "indoors",
        "clouds",
        "night",
        "school",
        "trees",
        "stars",
        "spring",
        "winter",
        "grass",
        "plain",
        "white_background",
        "simple_background",
        "bright",
        "smile",
        "happy",
        "sunlight",
        "animal_ears",
        "ribbon",
    }
)
"""Tags that yield to any other tag of their slot: `standing, dynamic_pose` is dynamic."""

_STYLE_WORDS = """
    anime_style anime sharp_focus masterpiece best_quality high_quality good_quality very_awa
    highres absurdres newest recent detailed highly_detailed very_aesthetic aesthetic chibi cute
    kawaii illustration digital_art official_art official_style cel_shading clean_lines
    clean_lineart vibrant_colors colorful soft_colors thick_outlines full_body solo duo trio
    2girls 3girls 4girls 2boys 3boys 4boys multiple_girls multiple_boys group looking_at_viewer
    general safe sfw 8k 4k hd ultra_detailed beautiful simple flat_color
"""
STYLE_WORDS = frozenset(_STYLE_WORDS.split())
"""Words that prompts carry and that change nothing here."""

_NAMES = """
    miku rin len luka kaito meiko gumi teto neru haku aoi akira aya ayaka chika chiyo emi emiko
    fumiko hana haru haruka haruto hikari himari hina hinata hiro hotaru ichika jun kaede kana
    kaori kazuki kei ken kenji kiko koharu kotone mai makoto maya mei midori mina mio misaki
    mitsuki momo nagi nana nao natsuki noa ren riko rina riku ryo saki sakura_chan satomi sayuri
    shin shiori sora suzu taro tomo tsubasa tsuki umi yua yui yuki yuna yuri yuto zoe lily anna
    mia leo alice clara nova iris luna
"""
NAMES = frozenset(_NAMES.split())
"""Given names: they tell characters apart in a prompt and decide nothing."""


def _meanings() -> dict[str, tuple[tuple[str, str], ...]]:
    found: dict[str, tuple[tuple[str, str], ...]] = {}
    for slot, values in TAGS.items():
        for value, tags in values.items():
            for tag in tags:
                found[tag] = ((slot, value),)
    for garment, tags in TAGS["garment"].items():
        for color in GARMENT_COLORS:
            for tag in tags:
                found[f"{color}_{tag}"] = (
                    ("garment", garment),
                    ("garment_color", color),
                )
    return found


MEANINGS: Mapping[str, tuple[tuple[str, str], ...]] = MappingProxyType(_meanings())
"""tag -> the (slot, value) pairs it decides: one, or two for a garment with its colour."""

WORDS: frozenset[str] = frozenset(MEANINGS) | STYLE_WORDS | NAMES
"""Every word the small model was taught."""


def spelled(tag: str) -> str:
    """A tag as the tables spell it: lower case, underscores for spaces."""
    return "_".join(tag.lower().split())


def meaning(tag: str) -> tuple[tuple[str, str], ...]:
    """What a tag decides: (slot, value) pairs, none for a word without effect."""
    return MEANINGS.get(spelled(tag), ())


def read_tags(tags: Iterable[str]) -> dict[str, str]:
    """What a list of one character's (or one scene's) tags decides, slot by slot.

    The first tag of a slot wins, except that `GENERAL` tags yield to all others and a bare
    garment yields to one with a colour. A garment's colour comes with the garment that won.
    """
    known = [tag for tag in map(spelled, tags) if tag in MEANINGS]
    chosen: dict[str, str] = {}
    for tag in sorted(known, key=lambda t: (_base(t) in GENERAL, -len(MEANINGS[t]))):
        pairs = MEANINGS[tag]
        if pairs[0][0] not in chosen:
            chosen.update(pairs)
    return chosen


def _base(tag: str) -> str:
    """A garment's tag without its colour: `white_shirt` is as general as `shirt`."""
    pairs = MEANINGS[tag]
    return tag.removeprefix(f"{pairs[1][1]}_") if len(pairs) == 2 else tag
