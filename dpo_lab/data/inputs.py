"""What answers depend on and text does not carry: tools, pictures, sounds, files, arrays, and marks of them in a prompt."""

import mimetypes
import re
from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from typing import Any

from dpo_lab.data.kinds import MEDIA_WORDS, TOOL_WORDS, WORD, is_empty, is_media, words_of
from dpo_lab.data.problems import RowProblem, excerpt
from dpo_lab.data.unread import DESCRIBES, is_descriptive, last_word
from dpo_lab.data.written import parsed
from dpo_lab.records import Message

SUFFIXES = frozenset(suffix[1:] for suffix in mimetypes.MimeTypes().types_map[True] if len(suffix) > 2)
"""Suffixes of files that Python's register of file types knows, the same on every machine."""
OFFICE = frozenset(["docx", "xlsx", "pptx", "odt", "ods", "odp", "rtf", "md", "epub", "ipynb"])
"""Those that older versions of the register lack."""
NO_FILES = frozenset(["ai", "me", "ms", "tr"])
"""Those that end names of hosts."""
PAGES = frozenset(["html", "htm"])
"""Those that end addresses of pages."""
FILE_NAME = re.compile(r"[^?#]*[^./?#]\.([A-Za-z][A-Za-z0-9]{1,4})")
NUMBERS = 2  # of a list that may describe the two answers; a longer one is data unless its name says what it describes

MARK = re.compile(
    r"<(\|?)(?:start_of_|begin_of_|begin_)?(image|vision|picture|photo|speech|sound|video|audio|img)s?[\w -]{0,20}\1>",
    re.IGNORECASE,
)
"""Where a picture, a sound or a film goes in the text of a model that sees or hears."""
BRACKETS = re.compile(r"\[(?:IMG|IMAGE|AUDIO|VIDEO)(?:[ _]?\d+)?\]")
ELEMENTS = frozenset(["picture", "video", "audio", "img"])
"""Marks that are elements of HTML too, which a question may be about."""
ENCLOSED = re.compile(r"<(img|image|audio|video)>([^<>\n]+)</\1>", re.IGNORECASE)
CODE = re.compile(r"```.*?(?:```|\Z)|`[^`\n]*`", re.DOTALL)


def refuse_inputs(columns: Mapping[str, Any], place: str = "") -> None:
    """Raise RowProblem if a column holds what the answers depend on and text does not carry.

    Tools, pictures, sounds and films are refused wherever they stand; names of other files and arrays of numbers where no name
    says that they describe the row.

    Args:
        columns: values by name.
        place: what stands before a name in the message.
    """
    for name, value, known in (found for column in columns.items() for found in places_in(*column)):
        if is_empty(value) or isinstance(value, bool | int | float):
            continue
        tools = last_word(name) in TOOL_WORDS or words_of(name)[-2:] == ("tool", "calls")
        media = not MEDIA_WORDS.isdisjoint(words_of(name)) or is_media(value)
        of_row = known or is_descriptive(name)
        file = not of_row and DESCRIBES.isdisjoint(words_of(name)) and names_file(value)
        if tools or media or file or (not of_row and is_array(value)):
            raise RowProblem(
                "unread_input",
                f"{place}{name} holds {excerpt(value)}, which the answers depend on and the text alone does not carry",
            )


def places_in(name: str, value: Any, *, known: bool = False) -> Iterator[tuple[str, Any, bool]]:
    """Yield a column and every object or list inside it by its key, and whether it stands inside known metadata.

    Metadata may hold the tools of a conversation, in JSON too.

    >>> [name for name, _, _ in places_in("meta", {"tools": [{"name": "clock"}], "tool": "a name"})]
    ['meta', 'tools']
    """
    yield name, value, known
    value = parsed(value) if isinstance(value, str) else value
    known = known or is_descriptive(name)
    for key, item in value.items() if isinstance(value, dict) else ():
        if isinstance(item, dict | list):
            yield from places_in(str(key), item, known=known)
    for item in value if isinstance(value, list) else ():
        if isinstance(item, dict):
            yield from islice(places_in("", item, known=known), 1, None)


def names_file(value: Any) -> bool:
    """Return whether a value is, or holds, the name of a file; addresses of pages and names of hosts are none.

    >>> [names_file(text) for text in ("a/b.docx", "x.csv", "https://a.org/b.xlsx", "a.org", "https://a.org/b.html", "qa.squad")]
    [True, True, True, False, False, False]
    """
    if isinstance(value, dict):
        return any(names_file(item) for item in value.values())
    if isinstance(value, list | tuple):
        return any(names_file(item) for item in value)
    text = value.strip() if isinstance(value, str) else ""
    if not (WORD.fullmatch(text) and (match := FILE_NAME.fullmatch(text))):
        return False
    suffix = match[1].lower()
    if "://" in text and (suffix in PAGES or text.count("/") < 3):
        return False
    return suffix in OFFICE or suffix in SUFFIXES - NO_FILES


def is_array(value: Any) -> bool:
    """Return whether a value is a list of more than two numbers, or lists of such: samples, pixels, an embedding.

    >>> is_array([0.1, 0.2, 0.3]), is_array([[[1], [2]], [[3]]]), is_array([4, 3]), is_array([True, False, True])
    (True, True, False, False)
    """
    return isinstance(value, list | tuple) and len(list(islice(numbers_in(value), NUMBERS + 1))) > NUMBERS


def numbers_in(value: Iterable[Any]) -> Iterator[float]:
    """Yield the numbers of a list and of the lists in it."""
    for item in value:
        if isinstance(item, list | tuple):
            yield from numbers_in(item)
        elif isinstance(item, int | float) and not isinstance(item, bool):
            yield item


def refuse_marks(turns: Iterable[Message]) -> None:
    """Raise RowProblem if the text of a prompt has a mark where a picture, a sound or a film goes."""
    for turn in turns:
        if mark := mark_in(turn["content"]):
            raise RowProblem(
                "unread_input", f"the prompt holds {mark}, a mark of what the answers depend on and the text alone does not carry"
            )


def mark_in(text: str) -> str:
    """Return the first mark of a picture, a sound or a film in a text; "" if there is none. Code and elements of HTML are none.

    >>> [mark_in(text) for text in ("<image>\\nWhat is it?", "Say <|audio_1|> again.", "How do I use <video> here?", "`<image>`")]
    ['<image>', '<|audio_1|>', '', '']
    """
    if "<" not in text and "[" not in text:
        return ""
    plain = CODE.sub("", text)
    if match := BRACKETS.search(plain):
        return match[0]
    for match in ENCLOSED.finditer(plain):
        if is_media(match[2]):
            return match[0]
    for match in MARK.finditer(plain):
        alone = not plain[: match.start()].rpartition("\n")[2].strip() or not plain[match.end() :].partition("\n")[0].strip()
        if f"</{match[2]}".lower() not in plain.lower() and (alone or match[2].lower() not in ELEMENTS or match[1]):
            return match[0]
    return ""
