"""What a value of a row is, told by the value itself: nothing, a word, text, or something that text cannot carry."""

import re
from collections.abc import Iterator
from functools import lru_cache
from itertools import pairwise
from typing import Any

from dpo_lab.data.written import turn_keys

EMPTY_TEXTS = ("", "[]", "{}", "null")
DATE = re.compile(r"\d{1,4}[-/.]\d{1,2}[-/.]\d{1,4}(?:[T ]\d{1,2}:\d{2}\S*(?: ?(?:UTC|GMT|Z))?)?")
WORD = re.compile(r"[\x21-\x7e]+(?<![?!])")
"""One word of ASCII without whitespace: an id, a name, a label, a URL. Other scripts write whole sentences without whitespace."""
MEDIA_FILE = re.compile(
    r"(?i)\Adata:[\w.+-]+/[\w.+-]+;base64,|\.(?:png|jpe?g|gif|webp|bmp|tiff?|svg|wav|mp3|flac|ogg|m4a|mp4|webm|avi|mov|pdf)\Z"
)
BASE64 = re.compile(r"[A-Za-z0-9+/]{200,}={0,2}")
PROSE = 12
"""Words from which on a text is prose."""
FULL_STOPS = "\u3002\uff01\uff1f\u0964\u061f"
"""Ends of sentences in scripts that need no blank around words or have no capitals."""
MEDIA_WORDS = frozenset(
    [
        "image",
        "images",
        "img",
        "imgs",
        "picture",
        "pictures",
        "photo",
        "photos",
        "screenshot",
        "screenshots",
        "pixel",
        "audio",
        "audios",
        "sound",
        "sounds",
        "speech",
        "video",
        "videos",
        "frames",
        "waveform",
        "waveforms",
        "attachment",
        "attachments",
    ]
)
TOOL_WORDS = frozenset(("tool", "tools", "function", "functions"))


def is_empty(value: Any) -> bool:
    """Return whether a value holds nothing: null, blank text, or a list or object of such, also as JSON text.

    >>> [is_empty(value) for value in (None, " ", [], [None, ""], {"a": []}, "[]", 0, False, "x")]
    [True, True, True, True, True, True, False, False, False]
    """
    if isinstance(value, str):
        return value.strip() in EMPTY_TEXTS
    if isinstance(value, dict):
        return all(is_empty(item) for item in value.values())
    if isinstance(value, list | tuple):
        return all(is_empty(item) for item in value)
    return value is None


def is_word(text: str) -> bool:
    """Return whether a text is one word or a date, so that it describes a row and asks nothing.

    >>> [is_word(text) for text in ("gpt-4", "2024-01-31 10:00", "https://a.b/c", "Why?", "Be brief.", "\\u4e3a\\u4ec0\\u4e48")]
    [True, True, True, False, False, False]
    """
    stripped = text.strip()
    return bool(WORD.fullmatch(stripped) or DATE.fullmatch(stripped))


def is_sentence(text: str) -> bool:
    """Return whether a text is a sentence or longer than a name: it ends like one and is none of a company, or has many words.

    >>> [is_sentence(text) for text in ("Be brief.", "Be kind! Now", "Why so?", "a book of the sky", "Smith et al.", "Acme Inc.")]
    [True, True, True, False, False, False]
    """
    words = text.split()
    if any(mark in text for mark in FULL_STOPS):
        return True
    if not 1 < len(words) < PROSE:
        return len(words) >= PROSE
    last = words[-1].rstrip("\"')\u201d\u2019")
    if last[-1:] in ("?", "!"):
        return True
    if last[-1:] in (".", "\u2026"):
        return any(word[0].islower() and len(word.rstrip(".\u2026")) > 2 for word in words[1:])
    return any(
        word[-1] in ".?!" and word[:1].islower() and len(word) > 3 and after[0].isupper() for word, after in pairwise(words)
    )


def is_media(value: Any) -> bool:
    """Return whether a value is, holds or names a picture, sound, film or file, by its bytes, suffix or encoding."""
    if isinstance(value, bytes | bytearray):
        return True
    if isinstance(value, str):
        text = value.strip()
        return (
            bool(MEDIA_FILE.search(text) or (BASE64.fullmatch(text) and len(set(text)) > 15)) if WORD.fullmatch(text) else False
        )
    if isinstance(value, dict):
        return any(is_media(item) for item in value.values())
    return isinstance(value, list | tuple) and any(is_media(item) for item in value)


def texts_in(value: Any) -> Iterator[str]:
    """Yield every text inside a value that is not blank; keys of objects and roles of turns do not count."""
    if isinstance(value, str):
        if value.strip():
            yield value
    elif isinstance(value, dict):
        for key, item in value.items():
            if key not in ("role", "from") or not turn_keys(value):
                yield from texts_in(item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from texts_in(item)


@lru_cache(maxsize=4096)
def words_of(name: str) -> tuple[str, ...]:
    """Return the words of a column's name in lower case.

    >>> words_of("chosenResponse_2"), words_of("non-preferred output"), words_of("LLMName")
    (('chosen', 'response', '2'), ('non', 'preferred', 'output'), ('llm', 'name'))
    """
    return tuple(word.lower() for word in re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[^\W\d_A-Z]+|\d+", name))
