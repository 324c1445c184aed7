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
    short = f"|{word}髪" if thing == "髪" else ""
    return f"{word}色の{thing}|{word}の{thing}{short}"


def _zh(colour: str, thing: str) -> str:
    word = _ZH_COLOURS[colour]
    return f"{word}色{thing}|{word}色的{thing}"


JAPANESE: Table = MappingProxyType(
    {
        "gender": {"1girl": "女の子|少女|女性", "1boy": "男の子|少年|男性"},
        "hair_color": {
            colour: _ja(colour, "髪") + "|銀髪|銀色の髪" * (colour == "grey") for colour in _HAIR
        },
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
        "eye_color": {colour: f"{_ja(colour, '目')}|{_ja(colour, '瞳')}" for colour in _EYES},
        "garment": {
            "school_uniform": "制服|セーラー服|学生服",
            "casual_jacket": "ジャケット|上着",
            "dress": "ドレス|ワンピース",
            "hoodie": "パーカー",
            "kimono": "着物|浴衣",
            "sweater": "セーター|ニット",
            "t-shirt": "Tシャツ|シャツ",
            "maid": "メイド服|エプロンドレス",
            "coat": "コート|ロングコート",
            "armor": "鎧|甲冑",
            "suit": "スーツ|背広|ブレザー",
        },
        "garment_color": {colour: _ja(colour, "") for colour in _CLOTH},
        "expression": {
            "smile": "微笑んでいる|笑顔|にっこりしている",
            "open_mouth": "口を開けて笑っている|口を開けている",
            "sad": "悲しそう|泣いている",
            "angry": "怒っている|不機嫌そう",
            "surprised": "驚いている|びっくりしている",
            "blush": "頬を赤らめている|照れている|恥ずかしそう",
            "one_eye_closed": "ウインクしている|片目を閉じている",
        },
        "pose": {
            "standing": "立っている",
            "dynamic_pose": "飛び跳ねている|走っている",
            "arms_up": "両手を上げている|バンザイしている",
            "waving": "手を振っている|手を上げている",
            "hands_on_hips": "腰に手を当てている",
            "sitting": "座っている",
            "outstretched_arms": "両腕を広げている|手を広げている",
            "crossed_arms": "腕を組んでいる|腕組みをしている",
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
            "halo": "天使の輪|光輪",
            "horns": "角|悪魔の角",
            "rabbit_ears": "うさ耳|ウサギの耳",
            "hairband": "カチューシャ|ヘアバンド",
            "witch_hat": "魔女の帽子|とんがり帽子",
            "straw_hat": "麦わら帽子",
            "crown": "王冠|ティアラ",
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
            "sunset": "夕日の海|日没|夕焼け空の下",
            "rain": "雨の中|雨の日",
            "underwater": "水中|海の中|海底",
            "space": "宇宙|宇宙空間|月面",
            "fireworks": "花火の下|花火大会|夏祭り",
            "street": "住宅街|通り|道路",
            "mountain": "山|山の麓|高い山々の前",
            "flower_field": "花畑|お花畑の中|庭園",
            "autumn_leaves": "紅葉の中|秋の森|落ち葉の中",
            "library": "図書館|図書室|本棚の前",
            "bedroom": "寝室|ベッドのある部屋|部屋",
            "stage": "ステージの上|舞台|コンサート会場",
            "pink_background": "ピンクの背景の前|ピンク色の背景",
            "blue_background": "青い背景の前|青い背景",
            "black_background": "黒い背景の前|黒い背景",
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
            colour: _zh(colour, "头发")
            + f"|{_ZH_COLOURS[colour]}发"
            + "|银发|银色头发" * (colour == "grey")
            for colour in _HAIR
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
            colour: _zh(colour, "眼睛") + f"|{_ZH_COLOURS[colour]}眼|{_ZH_COLOURS[colour]}瞳"
            for colour in _EYES
        },
        "garment": {
            "school_uniform": "校服|水手服|制服",
            "casual_jacket": "夹克|外套",
            "dress": "连衣裙|裙子",
            "hoodie": "连帽衫|卫衣",
            "kimono": "和服|浴衣",
            "sweater": "毛衣",
            "t-shirt": "T恤|短袖",
            "maid": "女仆装|女仆裙",
            "coat": "大衣|长外套",
            "armor": "盔甲|铠甲",
            "suit": "西装|西服",
        },
        "garment_color": {colour: _ZH_COLOURS[colour] + "色" for colour in _CLOTH},
        "expression": {
            "smile": "微笑|面带笑容",
            "open_mouth": "张着嘴|张嘴大笑",
            "sad": "悲伤|难过|流泪",
            "angry": "生气|愤怒",
            "surprised": "惊讶|吃惊",
            "blush": "脸红|害羞",
            "one_eye_closed": "眨眼|闭着一只眼",
        },
        "pose": {
            "standing": "站着|站立",
            "dynamic_pose": "跳跃|奔跑",
            "arms_up": "举起双手|高举双臂",
            "waving": "挥手|招手",
            "hands_on_hips": "双手叉腰|叉着腰",
            "sitting": "坐着",
            "outstretched_arms": "张开双臂|伸开双臂",
            "crossed_arms": "双臂交叉|抱着双臂",
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
            "halo": "光环|天使光环",
            "horns": "角|恶魔角",
            "rabbit_ears": "兔耳|兔子耳朵",
            "hairband": "发箍|发卡",
            "witch_hat": "女巫帽|巫师帽",
            "straw_hat": "草帽",
            "crown": "王冠|皇冠",
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
            "sunset": "海上日落|夕阳下|日落时分",
            "rain": "雨中|下雨天",
            "underwater": "水下|海底|水中",
            "space": "太空|宇宙中|月球上",
            "fireworks": "烟花下|烟火大会|夏日祭",
            "street": "街道上|马路边|住宅区",
            "mountain": "山脚下|雪山前|高山前",
            "flower_field": "花田里|花海中|花园里",
            "autumn_leaves": "红叶中|秋天的树林|落叶中",
            "library": "图书馆|书架前",
            "bedroom": "卧室里|房间里|床边",
            "stage": "舞台上|演唱会",
            "pink_background": "粉色背景前|粉红背景",
            "blue_background": "蓝色背景前|蓝色背景",
            "black_background": "黑色背景前|黑色背景",
        },
        "lighting": {
            "studio_lighting": "明亮的光线",
            "soft_lighting": "柔和的光线",
            "golden_hour": "夕阳的光|金色的阳光",
            "moonlight": "月光",
        },
    }
)
PLACES: Mapping[str, str] = MappingProxyType(
    {
        "cityscape_at_dusk": "in the city at dusk|in the city|above the city",
        "beach": "on the beach|at the beach|by the sea|at the seaside|by the ocean",
        "forest": "in the forest|in the woods|among trees",
        "classroom": "in a classroom|in the classroom|at school|in a school",
        "night_sky": "under the night sky|under the stars|at night|under a starry sky",
        "cherry_blossoms": "under cherry blossoms|among cherry blossoms|in spring",
        "snow": "in the snow|in winter|in a snowy landscape",
        "blue_sky": "under a blue sky|in a field|on a meadow|outdoors",
        "simple_background": "in front of a simple background|in front of a white background",
        "sunset": "at sunset|in front of the sunset|in the evening",
        "rain": "in the rain|on a rainy day",
        "underwater": "under water|underwater|under the sea|in a coral reef",
        "space": "in space|in outer space|on another planet|among the stars of a galaxy",
        "fireworks": "under fireworks|at a festival|at a summer festival",
        "street": "on the street|in the street|in a town|on a road",
        "mountain": "in the mountains|in front of a mountain|by a lake",
        "flower_field": "in a field of flowers|in a flower field|in a garden",
        "autumn_leaves": "among autumn leaves|in autumn|under a maple tree",
        "library": "in a library|in the library|in front of a bookshelf",
        "bedroom": "in a bedroom|in the bedroom|in a room|indoors",
        "stage": "on stage|on a stage|at a concert",
        "pink_background": "in front of a pink background",
        "blue_background": "in front of a blue background",
        "black_background": "in front of a black background|in front of a dark background",
    }
)
"""background -> how English sentences say that somebody is there, divided by `|`."""
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
