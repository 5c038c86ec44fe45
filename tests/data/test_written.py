"""Turns that stand in a column as text, behind whatever cover, are turns or are refused; answers that show code stay answers."""

import base64
import html
import json
import time
from collections.abc import Callable
from urllib.parse import quote

import pytest

from dpo_lab.data.columns import Columns
from dpo_lab.data.written import parsed
from tests.data.test_misread import ASKED, read, refused
from tests.data.test_unread import BAD, GOOD, TURN, Row

TWO_LINES = {"role": "assistant", "content": 'Air "scatters"\nblue.'}
COVERS: dict[str, Callable[[str], str]] = {
    "a byte order mark": lambda text: "\ufeff" + text,
    "a space of no width": lambda text: "\u200b " + text,
    "escaped quotes": lambda text: json.dumps(text)[1:-1],
    "escaped twice": lambda text: json.dumps(json.dumps(text)[1:-1])[1:-1],
    "entities": html.escape,
    "entities by number": lambda text: text.replace('"', "&#34;"),
    "a fence": lambda text: f"```json\n{text}\n```",
    "a fence of tildes": lambda text: f"~~~\n{text}\n~~~",
    "a label": lambda text: f"messages: {text}",
    "a label of code": lambda text: f"conversation = {text};",
    "a quoted label": lambda text: f'"messages": {text},',
    "a tag": lambda text: f"<messages>{text}</messages>",
    "single quotes": lambda text: f"'{text}'",
    "a url": quote,
    "base64": lambda text: base64.b64encode(text.encode()).decode(),
    "base64 in lines": lambda text: base64.encodebytes(text.encode()).decode(),
    "base64 for urls, not padded": lambda text: base64.urlsafe_b64encode(text.encode()).decode().rstrip("="),
    "base64 behind a label": lambda text: f"messages: {base64.b64encode(text.encode()).decode()}",
    "a data url": lambda text: f"data:application/json;base64,{base64.b64encode(text.encode()).decode()}",
    "hexadecimal digits": lambda text: text.encode().hex(),
    "a mark and a fence": lambda text: f"\ufeff```\nmessages: {html.escape(text)}\n```",
}


@pytest.mark.parametrize("cover", COVERS)
@pytest.mark.parametrize("name", ["question", "prompt"])
def test_turns_behind_a_cover_are_turns(cover: str, name: str) -> None:
    put = COVERS[cover]
    row: Row = {name: put(json.dumps([TURN])), "chosen": put(json.dumps([TWO_LINES])), "rejected": put(json.dumps([BAD]))}
    pair = read(row)
    assert list(pair.prompt.messages) == [TURN]
    assert (pair.chosen, pair.rejected) == (TWO_LINES["content"], BAD["content"])


def test_one_turn_on_each_line_is_a_conversation() -> None:
    row = {"chosen": f"{json.dumps(TURN)}\n{json.dumps(GOOD)}", "rejected": f"{json.dumps(TURN)}\n{json.dumps(BAD)}"}
    assert (read(row).prompt.text, read(row).chosen) == (TURN["content"], GOOD["content"])


@pytest.mark.parametrize(
    "text",
    [
        "- role: user\n  content: Why?\n- role: assistant\n  content: Air.",
        "[{role: 'assistant', content: 'Air.'}]",
        "[{\u201crole\u201d: \u201cassistant\u201d, \u201ccontent\u201d: \u201cAir.\u201d}]",
        '\ufeff[{"role": "assistant", "content": "Air.',
        '[{\\"role\\": \\"assistant\\", \\"content\\"',
        "[{&quot;role&quot;: &quot;assistant&quot;, &quot;con",
        '```json\n[{"role": "assistant", "content": "Air."\n```',
        'messages: [{"role": "assistant", "content": "Air."',
    ],
)
def test_turns_behind_a_cover_that_cannot_be_parsed_are_refused(text: str) -> None:
    assert refused({**ASKED, "chosen": text}).code == "json_text"


@pytest.mark.parametrize("cover", ["a byte order mark", "escaped quotes", "entities", "a url"])
def test_json_that_is_no_turns_is_refused_behind_an_encoding_too(cover: str) -> None:
    assert refused({**ASKED, "chosen": COVERS[cover]('{"reply": "a b"}')}).code == "json_text"


@pytest.mark.parametrize(
    "text",
    [
        '```json\n{"reply": "a b"}\n```',
        '```json\n[{"name": "Ann", "role": "manager"}]\n```',
        'trip = {"from": "Oslo", "to": "Rome"}',
        'Here it is:\n```json\n[{"role": "user", "content": "Hello"}]\n```',
        "```python\nprint('role')\n```",
        "Answer: [see below]",
        '"Why?" he said: "role".',
        "<p>A role from</p>",
        "AT&amp;T",
        "100% of it",
        "- one\n- two",
        "extraordinarily",
        base64.b64encode(b'{"reply": "a b"}').decode(),
        base64.b64encode(b"[not JSON at all").decode(),
        b'{"reply": "a b"}'.hex(),
        'Write it as in this example: [{"role": "user", "content": "Hello"}] and send it.',
        'Here is the JSON: {"name": "Ann", "role": "manager"}',
    ],
)
def test_an_answer_that_shows_code_is_an_answer(text: str) -> None:
    assert read({**ASKED, "chosen": text}).chosen == text


@pytest.mark.parametrize("lead", ["Here is the JSON: ", "Sure! Here is the conversation as JSON:\n\n", "The chat is "])
def test_turns_behind_a_sentence_are_refused_in_an_answer_and_are_what_a_prompt_is_about(lead: str) -> None:
    text = f"{lead}{json.dumps([GOOD], indent=1)}"
    row: Row = {**ASKED, "chosen": text, "rejected": "No idea."}
    for refused_row in (row, {"chosen": f"{lead}{json.dumps([TURN, GOOD])}", "rejected": f"{lead}{json.dumps([TURN, BAD])}"}):
        assert refused(refused_row).code == "json_text"
    assert "data.columns.text=chat" in refused(row).found
    assert read(row, Columns(text="chat")).chosen == text
    assert read({"question": text, "chosen": "It is valid.", "rejected": "No idea."}).prompt.text == text


def test_turns_in_a_fence_are_an_answer_where_the_user_says_so() -> None:
    text = COVERS["a fence"](json.dumps([GOOD]))
    row = {**ASKED, "chosen": text, "rejected": "No idea."}
    error = refused(row)
    assert error.code == "wrong_type"
    assert "data.columns.text=chat" in str(error)
    assert read(row, Columns(text="chat")).chosen == text


@pytest.mark.parametrize(
    "text",
    [
        "[" * 100_000,
        '"' * 100_000,
        "<a>" * 50_000,
        "```" * 50_000,
        "a: " * 50_000 + "[",
        '\\"' * 50_000,
        "W3" * 50_000,
        "a " * 50_000,
    ],
)
def test_a_long_text_is_looked_into_in_little_time(text: str) -> None:
    started = time.process_time()
    assert parsed(text) == text
    assert time.process_time() - started < 0.5


def test_turns_as_text_inside_a_turn_are_refused_and_code_there_is_text() -> None:
    assert refused({**ASKED, "chosen": [{**GOOD, "content": json.dumps([TURN, GOOD])}], "rejected": [BAD]}).code == "json_text"
    parts = json.dumps([{"type": "text", "text": "Air."}])
    assert refused({**ASKED, "chosen": [{**GOOD, "content": parts}], "rejected": [BAD]}).code == "json_text"
    for text in ('{"role": "manager"}', '[{"type": "text"}]', COVERS["a fence"](json.dumps([GOOD]))):
        assert read({**ASKED, "chosen": [{**GOOD, "content": text}], "rejected": [BAD]}).chosen == text
