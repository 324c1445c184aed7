"""How sentences name what the small model draws, in English, Japanese and Chinese.

English takes the tags themselves. `PHRASES` has the two others: slot -> value -> ways to say it,
divided by `|`; colours of garments stand before them.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

Table = Mapping[str, Mapping[str, str]]

_JA_COLOURS = {
    "black": "黒",
    "brown": "茶",
    "blonde": "金",
    "orange": "オレンジ",
    "red": "赤",
    "pink": "ピンク",
    "purple": "紫",
    "blue": "青",
    "aqua": "水色の",
    "green": "緑",
    "white": "白",
    "grey": "灰色の",
    "teal": "青緑の",
    "yellow": "黄色い",
}
_ZH_COLOURS = {
    "black": "黑",
    "brown": "棕",
    "blonde": "金",
    "orange": "橙",
    "red": "红",
    "pink": "粉",
    "purple": "紫",
    "blue": "蓝",
    "aqua": "水蓝",
    "green": "绿",
    "white": "白",
    "grey": "灰",
    "teal": "青",
    "yellow": "黄",
}
_HAIR = (
    "black",
    "brown",
    "blonde",
    "orange",
    "red",
    "pink",
    "purple",
    "blue",
    "aqua",
    "green",
    "white",
    "grey",
)
_EYES = ("blue", "red", "green", "teal", "yellow", "purple", "brown", "pink")
_CLOTH = ("red", "blue", "green", "yellow", "purple", "pink", "white", "black")


def _ja(colour: str, thing: str) -> str:
    word = _JA_COLOURS[colour]
    if word[-1] in "のい":
        return word + thing
    if colour in ("black", "red", "blue", "white"):
        return f"{word}い{thing}|{word}{thing}"
    return f"{word}色の{thing}|{word}の{thing}"


def _zh(colour: str, thing: str) -> str:
    word = _ZH_COLOURS[colour]
    return f"{word}色{thing}|{word}色的{thing}"


JAPANESE: Table = MappingProxyType(
    {
        "gender": {"1girl": "女の子|少女|女性", "1boy": "男の子|少年|男性"},
        "hair_color": {colour: _ja(colour, "髪") for colour in _HAIR},
        "hair_style": {
            "long_twintails": "長いツインテール|ツインテール",
            "short_pigtails": "短いおさげ|短いツインテール",
            "long_hair": "長い髪|ロングヘア",
            "short_hair": "短い髪|ショートヘア|ボブ",
            "ponytail": "ポニーテール",
            "twin_braids": "三つ編み|二つの三つ編み",
            "double_bun": "お団子|お団子頭",
            "spiky_hair": "つんつんした髪|ぼさぼさの髪",
        },
        "eye_color": {colour: _ja(colour, "目") for colour in _EYES},
        "garment": {
            "school_uniform": "制服|セーラー服|学生服",
            "casual_jacket": "ジャケット|上着",
            "dress": "ドレス|ワンピース",
            "hoodie": "パーカー",
            "kimono": "着物|浴衣",
            "sweater": "セーター|ニット",
            "t-shirt": "Tシャツ|シャツ",
        },
        "garment_color": {colour: _ja(colour, "") for colour in _CLOTH},
        "expression": {
            "smile": "微笑んでいる|笑顔|にっこりしている",
            "open_mouth": "口を開けて笑っている|口を開けている",
            "sad": "悲しそう|泣いている",
            "angry": "怒っている|不機嫌そう",
            "surprised": "驚いている|びっくりしている",
        },
        "pose": {
            "standing": "立っている",
            "dynamic_pose": "飛び跳ねている|走っている",
            "arms_up": "両手を上げている|バンザイしている",
            "waving": "手を振っている|手を上げている",
            "hands_on_hips": "腰に手を当てている",
            "sitting": "座っている",
        },
        "accessory": {
            "none": "",
            "glasses": "眼鏡|メガネ",
            "hair_bow": "リボン|髪のリボン",
            "cat_ears": "猫耳|ネコミミ",
            "headphones": "ヘッドホン",
            "flower": "髪の花|花飾り",
            "beret": "ベレー帽|帽子",
            "scarf": "マフラー",
        },
        "background": {
            "cityscape_at_dusk": "夕暮れの街|夕方の都会",
            "beach": "海辺|浜辺|砂浜",
            "forest": "森|森の中",
            "classroom": "教室|学校",
            "night_sky": "夜空の下|星空の下",
            "cherry_blossoms": "桜の木の下|桜並木",
            "snow": "雪の中|雪景色",
            "blue_sky": "青空の下|草原",
            "simple_background": "無地の背景の前|白い背景の前",
        },
        "lighting": {
            "studio_lighting": "明るい光",
            "soft_lighting": "柔らかい光",
            "golden_hour": "夕日の光|夕焼けの光",
            "moonlight": "月明かり|月の光",
        },
    }
)
CHINESE: Table = MappingProxyType(
    {
        "gender": {"1girl": "女孩|少女|女生", "1boy": "男孩|少年|男生"},
        "hair_color": {
            colour: _zh(colour, "头发") + f"|{_ZH_COLOURS[colour]}发" for colour in _HAIR
        },
        "hair_style": {
            "long_twintails": "长双马尾|双马尾",
            "short_pigtails": "短双马尾|短辫子",
            "long_hair": "长发|长头发",
            "short_hair": "短发|波波头",
            "ponytail": "马尾|高马尾",
            "twin_braids": "双麻花辫|麻花辫",
            "double_bun": "丸子头|双丸子头",
            "spiky_hair": "刺猬头|乱蓬蓬的头发",
        },
        "eye_color": {
            colour: _zh(colour, "眼睛") + f"|{_ZH_COLOURS[colour]}眼" for colour in _EYES
        },
        "garment": {
            "school_uniform": "校服|水手服|制服",
            "casual_jacket": "夹克|外套",
            "dress": "连衣裙|裙子",
            "hoodie": "连帽衫|卫衣",
            "kimono": "和服|浴衣",
            "sweater": "毛衣",
            "t-shirt": "T恤|短袖",
        },
        "garment_color": {colour: _ZH_COLOURS[colour] + "色" for colour in _CLOTH},
        "expression": {
            "smile": "微笑|面带笑容",
            "open_mouth": "张着嘴|张嘴大笑",
            "sad": "悲伤|难过|流泪",
            "angry": "生气|愤怒",
            "surprised": "惊讶|吃惊",
        },
        "pose": {
            "standing": "站着|站立",
            "dynamic_pose": "跳跃|奔跑",
            "arms_up": "举起双手|高举双臂",
            "waving": "挥手|招手",
            "hands_on_hips": "双手叉腰|叉着腰",
            "sitting": "坐着",
        },
        "accessory": {
            "none": "",
            "glasses": "眼镜",
            "hair_bow": "蝴蝶结|发带",
            "cat_ears": "猫耳",
            "headphones": "耳机",
            "flower": "头花|花",
            "beret": "贝雷帽|帽子",
            "scarf": "围巾",
        },
        "background": {
            "cityscape_at_dusk": "黄昏的城市|傍晚的街道",
            "beach": "海边|沙滩",
            "forest": "森林|树林",
            "classroom": "教室|学校",
            "night_sky": "夜空下|星空下",
            "cherry_blossoms": "樱花树下|樱花中",
            "snow": "雪地里|雪中",
            "blue_sky": "蓝天下|草地上",
            "simple_background": "纯色背景前|白色背景前",
        },
        "lighting": {
            "studio_lighting": "明亮的光线",
            "soft_lighting": "柔和的光线",
            "golden_hour": "夕阳的光|金色的阳光",
            "moonlight": "月光",
        },
    }
)
PHRASES: Mapping[str, Table] = MappingProxyType({"ja": JAPANESE, "zh": CHINESE})

# Words of sentences that say nothing of what is drawn: they stand beside tags, and change nothing.
EMPTY_WORDS: Mapping[str, tuple[tuple[str, ...], ...]] = MappingProxyType(
    {
        "en": (
            (
                "the mood",
                "the whole scene",
                "everything here",
                "this moment",
                "the air",
                "the picture",
                "an old story",
                "the day",
                "a quiet feeling",
                "the composition",
            ),
            ("feels", "seems", "looks", "is said to be", "has always been", "turns out"),
            (
                "calm and full of wonder",
                "like a memory",
                "almost too real",
                "gentle",
                "full of hope",
                "a little mysterious",
                "carefully drawn",
                "worth remembering",
                "peaceful",
                "as if time had stopped",
            ),
        ),
        "ja": (
            (
                "この絵は",
                "全体の雰囲気は",
                "この瞬間は",
                "空気は",
                "物語は",
                "今日という日は",
                "静かな時間が",
                "その場の様子は",
            ),
            ("とても", "どこか", "なんとなく", "いつも", "少しだけ", "まるで夢のように"),
            (
                "穏やかだ",
                "懐かしい",
                "丁寧に描かれている",
                "希望に満ちている",
                "不思議だ",
                "優しい",
                "心に残る",
                "流れていく",
            ),
        ),
        "zh": (
            ("这幅画", "整个画面", "这一刻", "空气", "故事", "今天", "安静的时光", "这里的一切"),
            ("看起来", "似乎", "总是", "显得", "有点", "仿佛"),
            (
                "很平静",
                "充满希望",
                "令人怀念",
                "画得很细致",
                "有些神秘",
                "温柔",
                "值得记住",
                "停住了一样",
            ),
        ),
    }
)
