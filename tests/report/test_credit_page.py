"""Token credit on the page: every token where it belongs, coloured by its log-ratio, and text that stays text."""

import json
from pathlib import Path
from typing import Any

from dpo_lab.report.credit import credit_of
from dpo_lab.report.page import write_report
from dpo_lab.run_directory import RUN, SUMMARY
from dpo_lab.tokens.pieces import pieces_of

HOSTILE = ["<script>alert(1)</script>", "\u202e", '" onmouseover="x', "\n", "\x00", "&amp;", "</s>", ""]


class Bytes:
    """Stands in for a tokenizer: a token is a byte."""

    def decode(self, ids: list[int], *, skip_special_tokens: bool) -> str:
        return bytes(ids).decode("utf-8", errors="replace")


def side(pieces: list[str], ratios: list[float], **more: Any) -> dict[str, Any]:
    return {"pieces": pieces, "ratios": ratios, "rest": 0.0, "left_out": 0, **more}


def pair(chosen: dict[str, Any], margin: float = 1.5) -> dict[str, Any]:
    return {"end": "best", "margin": margin, "prompt": "<b>why</b>?", "chosen": chosen, "rejected": side(["no"], [-0.2])}


def page(directory: Path, *pairs: dict[str, Any]) -> str:
    (directory / RUN).write_text(json.dumps({"name": "run", "credit": list(pairs)}))
    (directory / SUMMARY).write_text(json.dumps({"eval/accuracy": 0.75}))
    return write_report(directory).read_text(encoding="utf-8")


def test_pieces_join_to_the_text_and_a_cut_character_waits_for_its_end() -> None:
    text = "naïve 日本 \N{PARTY POPPER}!"
    pieces = pieces_of(Bytes(), list(text.encode()))
    assert "".join(pieces) == text
    assert pieces[2:4] == ["", "ï"]
    assert pieces_of(Bytes(), [0xE6]) == ["\N{REPLACEMENT CHARACTER}"], "the end is shown as it is"
    assert pieces_of(Bytes(), []) == []


def test_a_token_is_coloured_by_its_log_ratio() -> None:
    found = credit_of([pair(side(["a", "b", "c"], [0.3, -1.2, 0.0]))])
    assert found
    assert found.steps == (0.02, 0.04, 0.1, 0.2), "of .2, .3 and 1.2 the largest but one is .3; the scale ends at .2"
    (shown,) = found.pairs
    assert [(token.text, token.shade, token.title) for token in shown.sides[0].tokens] == [
        ("a", "up4", "+0.300 nats"),
        ("b", "down4", "-1.200 nats"),
        ("c", "", "+0.000 nats"),
    ]
    assert (shown.title, shown.sides[0].label) == ("best, margin +1.50 nats", "chosen, -0.90 nats")
    wrong = credit_of([pair(side([], []), margin=-0.5)])
    assert wrong
    assert wrong.pairs[0].title == "best, margin -0.50 nats: wrong"


def test_hostile_tokens_stay_text(tmp_path: Path) -> None:
    written = page(tmp_path, pair(side(HOSTILE, [0.3] * len(HOSTILE))))
    assert "<script>alert" not in written
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in written
    assert "&lt;b&gt;why&lt;/b&gt;?" in written
    assert "\u202e" not in written
    assert "\\u202e" in written
    assert "\\u0000" in written
    assert '" onmouseover=' not in written
    assert "&amp;amp;" in written
    assert "\N{MIDDLE DOT}</bdi>" in written, "a token without text can be pointed at"


def test_the_page_has_a_scale_and_says_what_is_left_out(tmp_path: Path) -> None:
    written = page(tmp_path, pair(side(["a"], [0.3], rest=-2.5, left_out=7)))
    assert '<h2 id="credit">Best and worst held-out pairs, token by token</h2>' in written
    assert all(f'<span class="{side}{level}">' in written for side in ("up", "down") for level in (1, 2, 3, 4))
    assert "7 more tokens, -2.50 nats" in written
    assert "chosen, -2.20 nats" in written


def test_a_run_without_pairs_has_no_such_part(tmp_path: Path) -> None:
    assert 'id="credit"' not in page(tmp_path)


def test_a_damaged_part_is_said_and_leaves_the_rest(tmp_path: Path) -> None:
    written = page(tmp_path, {"end": "best"})
    assert "credit cannot be shown (KeyError" in written
    assert 'id="figures"' in written
