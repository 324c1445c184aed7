"""What people and chat models write beside a prompt: sentences about it, and program text."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import lru_cache

from sakuga.prompt.nodes import Span
from sakuga.prompt.regex import Regex

# How an answer begins, by language; the sentence that follows is about the prompt, not of it.
_OPENERS = (
    "sure|certainly|of course|okay|ok|absolutely|got it|alright|no problem|understood"
    "|here(?:'s|’s| is| are| you go)|below is|below you|the following|this is the|based on your"
    "|as requested|let me|i(?:'ve|’ve|'ll|’ll|'m|’m| have| will| can| made| created| hope| am)"
    "|好的|好嘞|当然|沒問題|没问题|以下|下面|下方|这是|這是|这里是|這裡是|根据您|根据你"
    "|希望|请|請|明白|收到|为您|为你|我"
    "|はい|もちろん|承知|了解|かしこまりました|以下|こちら|ご要望|ご希望"
    "|네|물론|알겠습니다|다음은|여기|아래"
    "|claro|por supuesto|aquí|a continuación|desde luego|espero"
    "|voici|bien sûr|bien entendu|d'accord|certainement|j'ai"
    "|hier (?:ist|sind)|natürlich|gerne|selbstverständlich|klar|ich habe"
    "|certo|ecco|certamente|aqui está|segue|com certeza"
    "|вот|конечно|хорошо|ниже|готово|пожалуйста"
    "|tentu|berikut|dưới đây|đây là|tabii|elbette|işte|oto|oczywiście|นี่คือ"
)
# Words that speak of the prompt or to the reader, wherever they stand.
_PHRASES = (
    r"\bprompts?\b|\bxml\b|提示词|提示詞|プロンプト|프롬프트|промпт|\bcode block\b"
    r"|\blet me know\b|\bfeel free\b|\bhope (?:this|that|you|it)\b|\bdaj znać\b|\bwould you like\b"
    r"|\bif you(?:'d|’d)?\b"
    r"|\byou can\b|\bdo you want\b|\benjoy\s*!|\byour (?:request|image|picture|character|scene)\b"
    r"|请告诉我|請告訴我|如需|如果您|如果你|需要修改|需要调整|告诉我|您"
    r"|お知らせください|必要に応じて"
    r"|ご確認|いかがでしょう|お気軽|말씀해|원하시면|déjame saber|si quieres|avísame"
    r"|faites-moi savoir"
    r"|n'hésitez|dites[- ]moi|vous (?:souhaitez|voulez|plaît|plaira)|lass mich|sag mir|gefällt"
    r"|fammi sapere|ti piaccia|me avise|gostar|guste|дайте знать|если хотите|если нужно|надеюсь"
    r"|понравит|幸いです|気に入って|いただければ|마음에 드|希望你喜欢|希望您喜欢"
)
_LABELS = (
    "explanation|notes?|translation|summary|breakdown|changes|key (?:points|features)"
    "|说明|說明|解释|解釋|翻译|翻譯|中文|备注|備註|注意|注|总结|説明|解説|翻訳|補足|ポイント"
    "|설명|번역|explicación|traducción|explication|traduction|erklärung|übersetzung|hinweis"
    "|spiegazione|traduzione|explicação|tradução|пояснение|перевод"
)
_CHAT = Regex(
    rf"[\s>#*_\-]*(?:(?:{_OPENERS})(?![\w_])|(?:{_LABELS})[*_\s]*[:：]|#{{1,6}}\s)"
    rf"|[\s>#*_\-]*(?:{_OPENERS})(?<=[^\x00-\u02ff])"
    rf"|\s*\*\*[^*\n]{{1,60}}\*\*\s*[:：]?\s*$",
    re.I,
)
_SPOKEN = Regex(_PHRASES, re.I)
_ENDS = (":", "：", "?", "？", ":**", "：**", "👇", "⬇️")
_COMMAS = Regex("[,，、\n]")
_WIDE = Regex("[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]")
_LOOKED_AT = 1_000  # characters of a text, or of each of its ends
_MOST_WORDS = 4  # of a tag
_LEAST_WORDS = 3  # of a sentence that ends as one
_MOST_SIGNS = 6  # of a tag in a script that puts no space between words
_QUOTES = r"(?P<quote>\"\"\"|'''|[\"'`“])"
# The last of a program before its text: prompt = r\"""  or  print("  or  {"prompt": "
_OPENED = Regex(rf"(?:^|[\s=(,:\[{{])[rRfFbBuU]{{0,2}}{_QUOTES}\s*$")
_ASSIGNED = Regex(r"(?:^|\n)[\w.\[\]\"' ]{1,60}(?::[ \w]{1,30})?(?:=|:\s*[|>][+\-]?)\s*\(?\s*$")
_CLOSED = Regex(r"\s*(?:\"\"\"|'''|[\"'`”]\s*(?:[,;)\]}.]|$))")
_MARKS = Regex(r"[\s{}\[\]()\"'`“”‘’,;=_*\-]*")
_MARK = Regex(r"[{}\[\]()\"'`“”‘’=_*\-]")
_BLANK = r"(?:[^\S\n]|[,;])*+"
_MARK_LINES = Regex(
    rf"(?:^{_BLANK}[{{}}\[\]()\"'`“”‘’=_*\-](?:[{{}}\[\]()\"'`“”‘’,;=_*\-]|[^\S\n])*+(?:\n|\Z))++",
    re.M,
)


@lru_cache(maxsize=256)  # a text may have very many stretches that are alike
def is_chat(text: str) -> bool:
    """Whether a text speaks about a prompt rather than describing a picture."""
    if len(text) > 2 * _LOOKED_AT:
        text = f"{text[:_LOOKED_AT]}…\n…{text[-_LOOKED_AT:]}"  # no line ends or begins there
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    if any(line.endswith(_ENDS) or _CHAT.compiled.match(line) for line in lines):
        return True
    return _SPOKEN.compiled.search(" ".join(text.split())) is not None


def divides(text: str) -> bool:
    """Whether a text has several parts, as lists of tags have."""
    return _COMMAS.compiled.search(text) is not None


def wide(text: str) -> int:
    """How many signs a text has of scripts that put no space between words."""
    return len(_WIDE.compiled.findall(text))


def is_prose(text: str) -> bool:
    """Whether a text is sentences rather than tags."""
    parts = _COMMAS.compiled.split(text)
    longest = max(len(part.split()) for part in parts)
    most = max(map(wide, parts))
    ends = text.rstrip().endswith((".", "!", "?", "！", "？")) and len(text.split()) >= _LEAST_WORDS
    return longest > _MOST_WORDS or most > _MOST_SIGNS or "。" in text or ends


@lru_cache(maxsize=1024)
def is_introduction(line: str) -> bool:
    """Whether a line above or below plain tags can only be meant for a reader."""
    if len(line) > _LOOKED_AT:
        return False
    bare = line.strip()
    leads = bare.endswith((":", "："))
    prose = leads or len(bare.split()) > 3 or not bare.isascii() or bare.endswith(("!", "！"))
    # A comma early on is one between tags, unless they end as a sentence does.
    listed = "," in line[:12] and not leads and not bare.endswith((".", "!", "?", "。"))
    return (
        prose and not listed and bool(_CHAT.compiled.match(line) or _SPOKEN.compiled.search(line))
    )


def end_of_introduction(line: str) -> int:
    """Where a line that only introduces tags ends, or begins to be tags itself."""
    colon = re.search("[:：]", line)
    return colon.end() if colon and divides(line[colon.end() :].strip()) else len(line)


def opens_text(text: str) -> bool:
    """Whether a text ends as a program does that is about to give a prompt."""
    return bool(_OPENED.compiled.search(text[-80:]) or _ASSIGNED.compiled.search(text[-160:]))


def closes_text(text: str) -> bool:
    """Whether a text begins as a program does that has just given a prompt."""
    return bool(_CLOSED.compiled.match(text))


def lines_of_marks(text: str, gap: Span) -> Iterator[Span]:
    """The lines of a stretch that `is_marks` of, those that follow each other as one."""
    for match in _MARK_LINES.compiled.finditer(text, gap.start, gap.end):
        yield Span(*match.span())


def is_marks(text: str) -> bool:
    """Whether a text is nothing but brackets, quotes and rules."""
    return bool(_MARKS.compiled.fullmatch(text) and _MARK.compiled.search(text))
