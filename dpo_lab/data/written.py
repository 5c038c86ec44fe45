"""Objects and lists that a program wrote into a column as text: JSON, Python's notation, and either of them behind a cover.

A cover is what stands around the notation and says nothing: a byte order mark, quotes, escapes for strings, HTML or URLs, a
fence of code, a label, base64. An answer may well be JSON in a fence, behind a label or in base64, so there the notation counts
for turns alone.
"""

import ast
import base64
import html
import json
import re
from typing import Any, NamedTuple
from urllib.parse import unquote

Q = r"[\"'\u2018-\u201f]"
WRITTEN_TURNS = re.compile(
    rf"""\A\s*(?:array\(\s*)?[\[(]?\s*\{{(?:\s*{Q}(?:role|content|from|value|messages|conversations)|[^{{}}\[\]]*{Q}(?:role|from)){Q}\s*:"""
    rf"""|\A[\[(]?\s*\{{\s*role\s*:\s*{Q}|\A-\s+{Q}?role{Q}?\s*:\s*{Q}?\w+{Q}?\s*\n\s+{Q}?content{Q}?\s*:"""
)
"""The beginning of turns that some program wrote as text: JSON, Python, numpy, JavaScript, YAML; the role may stand anywhere in
the first turn."""
TURN_KEYS = (("role", "content"), ("from", "value"))
CONVERSATION_KEYS = ("messages", "conversations", "conversation")
INVISIBLE = "\ufeff\u200b\u200c\u200d\u2060\x00"
SPACE = f"{INVISIBLE} \t\r\n\f\v"
BYTES = r"(?:[We][w-z0-9+/_-][\w+/-]{14}|[57][bB][\da-fA-F]{14}|data:[\w/+.;=-]{0,60},)"
"""How `[` or `{` begins in base64, in hexadecimal digits and in a data URL."""
OPENING = rf"""(?:[\[{{("'`~<%&\\\u2018-\u201f]|array\(|b["']|-\s|{BYTES})"""
LABEL = re.compile(rf"[\"']?\w[\w.-]{{0,39}}[\"']?\s*[:=]\s*(?={OPENING})")
BEGINS = re.compile(rf"{OPENING}|{LABEL.pattern}")
"""How a text begins that may write something; most texts do not."""
LEAD = re.compile(r"[^\[{(<`]{1,160}[\s:=](?=[\[{]\s*[{\"'])")
"""A sentence before the notation: `Here is the JSON: [{`."""
ENCODED = re.compile(r"(?:data:[\w/+.;=-]{0,60};base64,)?([\w+/\r\n-]{16,}={0,2})")
FENCE = re.compile(r"(```|~~~)[\w+-]{0,20}(?=[\s\[{(&\"'\\])")
TAG = re.compile(r"<(\w+)>(.+)</\1>", re.DOTALL)
QUOTED = re.compile(r"(?:b?(['\"`])(.+)\1|[\u2018-\u201f](.+)[\u2018-\u201f])", re.DOTALL)
KNOWN_ROLE = re.compile(
    rf"[\[{{(][^{{}}]{{0,9}}.{{0,200}}?(?:role|from){Q}?\s*:\s*{Q}?(?:system|user|assistant|human|gpt|model)\b", re.DOTALL
)
"""Turns of a known role near the beginning."""
SPEAKERS = frozenset(("system", "user", "assistant", "human", "gpt", "model", "prompter", "tool", "function", "observation"))
COVERS = 8  # one inside the other, at most


class Written(NamedTuple):
    """What a text writes."""

    value: Any
    """The object or list; None where the text is in no notation."""
    bare: str
    """The text without its covers."""
    shown: bool
    """It stands in a fence, in a tag, behind a label or a sentence, or in base64, as a piece of code in an answer does."""
    told: bool = False
    """A sentence stands before turns of known roles: an answer about them, or what a program put before an answer."""

    @property
    def counts(self) -> bool:
        """Whether there is a value, and turns of known roles where it is shown without a sentence."""
        return self.value is not None and not self.told and (not self.shown or speaks(self.value))

    @property
    def begins_like_turns(self) -> bool:
        """Whether the text begins like turns."""
        return bool((KNOWN_ROLE if self.shown else WRITTEN_TURNS).match(self.bare))


def parsed(text: str) -> Any:
    """Return the object or list that a text writes in JSON or as Python does; the text itself where it writes none.

    >>> parsed('[{"role": "user"}]'), parsed("[{'role': 'user'}]"), parsed("[1] says so"), parsed('"7"')
    ([{'role': 'user'}], [{'role': 'user'}], '[1] says so', '"7"')
    >>> parsed('turns: [{"role": "user", "content": "a"}]'), parsed("[{&quot;a&quot;: 1}]"), parsed('sizes: {"a": 1}')
    ([{'role': 'user', 'content': 'a'}], [{'a': 1}], 'sizes: {"a": 1}')
    """
    written = written_in(text)
    return written.value if written and written.counts else text


def is_shown(value: Any) -> bool:
    """Return whether a value is text that shows turns in a fence, behind a label and so on, as an answer about programs may."""
    written = written_in(value) if isinstance(value, str) else None
    return bool(written and written.shown and (written.counts or written.begins_like_turns))


def turn_keys(item: Any) -> tuple[str, str] | None:
    """Return under which keys a turn says who speaks and what; None for a value that is not a turn.

    People, routes and mails have a `role` or a `from` too: without what is said, only a known speaker makes a turn.

    >>> turn_keys({"from": "gpt", "value": "So."}), turn_keys({"role": "editor", "content": "So.", "from": "web"})
    (('from', 'value'), ('role', 'content'))
    >>> turn_keys({"from": "Rome", "to": "Paris"}), turn_keys({"role": "assistant", "text": "So."})
    (None, ('role', 'content'))
    """
    for keys in TURN_KEYS if isinstance(item, dict) else ():
        if keys[0] in item and isinstance(item[keys[0]], str) and isinstance(item.get(keys[1], 0), str | list | None):
            return keys
    for keys in TURN_KEYS if isinstance(item, dict) else ():
        if keys[0] in item and str(item[keys[0]]).lower() in SPEAKERS:
            return keys
    return None


def is_turns(value: Any) -> bool:
    """Return whether a value is one turn, a list of turns, or an object that holds such a list under a known key."""
    if isinstance(value, list):
        return bool(value) and all(turn_keys(item) for item in value)
    return isinstance(value, dict) and (
        turn_keys(value) is not None or any(is_turns(value.get(key)) for key in CONVERSATION_KEYS)
    )


def holds_turns(value: Any) -> bool:
    """Return whether a value is or holds turns of known roles.

    >>> holds_turns({"chat": [{"role": "user", "content": "Hello"}]}), holds_turns([{"role": "editor"}])
    (True, False)
    """
    items = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return (isinstance(value, dict | list) and speaks(value)) or any(holds_turns(item) for item in items)


def speaks(value: Any) -> bool:
    """Return whether a value is turns of known roles with what they say, and no other objects with a role, as people have.

    >>> speaks([{"role": "user", "content": "Why?"}]), speaks([{"role": "manager", "name": "Ann"}])
    (True, False)
    """
    if isinstance(value, list):
        return bool(value) and all(isinstance(item, dict) and speaks(item) for item in value)
    if keys := turn_keys(value):
        return keys[1] in value and str(value[keys[0]]).lower() in SPEAKERS
    return isinstance(value, dict) and any(isinstance(value.get(key), list) and speaks(value[key]) for key in CONVERSATION_KEYS)


def written_in(text: str) -> Written | None:
    """Return what a text writes once its covers are off; None for a text that begins like no notation."""
    bare, shown = text.strip(SPACE), False
    if not BEGINS.match(bare):
        lead = LEAD.match(bare)
        value = notation(bare[lead.end() :]) if lead else None
        return Written(value, bare[lead.end() :], shown=True, told=True) if lead and speaks(value) else None
    for _ in range(COVERS):
        value = notation(bare)
        if isinstance(value, dict | list):
            return Written(value, bare, shown)
        inner, shows = (value, False) if isinstance(value, str) else uncovered(bare)
        if inner is None or inner.strip(SPACE) == bare:
            break
        bare, shown = inner.strip(SPACE), shown or shows
    return Written(None, bare, shown)


def notation(text: str) -> Any:
    """Return what a text says in JSON, in lines of JSON turns or as Python writes turns; None where it is none of them."""
    if text[:1] not in ("[", "{", "(", '"'):
        return None
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        if not WRITTEN_TURNS.match(text):
            return None
    try:
        lines = [json.loads(line) for line in text.splitlines() if line.strip()]
        if is_turns(lines):
            return lines
    except (ValueError, RecursionError):
        pass
    try:
        value = ast.literal_eval(text)  # literals only: nothing is run
    except (ValueError, SyntaxError, RecursionError, MemoryError):
        return None
    several = list(value) if isinstance(value, tuple) else value
    return several if several is value or is_turns(several) else None


def uncovered(text: str) -> tuple[str | None, bool]:
    """Return a text without its outermost cover, None if it has none, and whether the cover shows what is in it."""
    if (match := FENCE.match(text)) and text.endswith(match[1]):
        return text[match.end() : -3], True
    if match := TAG.fullmatch(text):
        return match[2], True
    if match := LABEL.match(text):
        return text[match.end() :], True
    if match := QUOTED.fullmatch(text):
        return match[2] or match[3], False
    if text[-1:] in (",", ";"):
        return text[:-1], False
    if match := ENCODED.fullmatch(text):
        return decoded(match[1]), True
    if '\\"' in text or "\\'" in text:
        return unescaped(text), False
    if text[:3].upper() in ("%5B", "%7B"):
        return unquote(text), False
    return (html.unescape(text) if "&" in text else None), False


def decoded(text: str) -> str | None:
    """Return the text in base64, also that for URLs, or in hexadecimal digits; None where it is neither.

    >>> decoded("W3siYSI6IDF9XQ"), decoded("5b7b2261223a20317d5d"), decoded("extraordinarily"), decoded("W3si!!!!YSI6IDF9XQ")
    ('[{"a": 1}]', '[{"a": 1}]', None, None)
    """
    try:
        if re.fullmatch(r"[\da-fA-F\s]+", text):
            return bytes.fromhex(text).decode()
        plain = "".join(text.split()).rstrip("=").translate(str.maketrans("-_", "+/"))
        return base64.b64decode(plain + "=" * (-len(plain) % 4), validate=True).decode()
    except ValueError:
        return None


def unescaped(text: str) -> str:
    """Return a text as it was before its quotes were written for a string: `{\\"a\\": 1}`."""
    try:
        value = json.loads(f'"{text}"', strict=False)
    except ValueError:
        value = re.sub(r"\\([\"'])", r"\1", text)
    return str(value)
