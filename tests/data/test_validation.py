"""Facts about validation and loading: what is kept, left out or refused, and what the user is told."""

import json
from pathlib import Path
from typing import Any

import pytest

from dpo_lab.data.load import load_pairs
from dpo_lab.data.problems import CODES, DataError, Problem
from dpo_lab.data.validation import validate
from dpo_lab.records import PreferencePair, Prompt

QUESTION = Prompt.from_text("Is it late?")


def pair(chosen: str = "No.", rejected: str = "Yes.", prompt: Prompt = QUESTION, row: int = 1, **scores: Any) -> PreferencePair:
    return PreferencePair(prompt=prompt, chosen=chosen, rejected=rejected, source="pairs.jsonl", row=row, **scores)


def outcome(*pairs: PreferencePair) -> tuple[int, list[tuple[str, str]]]:
    kept, problems = validate(pairs)
    return len(kept), [(problem.code, problem.verdict) for problem in problems]


def written(tmp_path: Path, rows: list[dict[str, Any]]) -> Path:
    path = tmp_path / "pairs.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def plain(number: int, **columns: Any) -> dict[str, Any]:
    return {"prompt": f"Q: {number}?\nA:", "chosen": " yes", "rejected": " no", **columns}


def test_a_pair_without_faults_is_kept_without_a_note() -> None:
    assert outcome(pair()) == (1, [])


@pytest.mark.parametrize(
    ("faulty", "code"),
    [
        (pair("No.", "No."), "chosen_equals_rejected"),
        (pair("No.", " No.\n"), "chosen_equals_rejected"),
        (pair(chosen=""), "empty_response"),
        (pair(rejected=" \n"), "empty_response"),
        (pair(rejected="\u200b"), "empty_response"),
        (pair(prompt=Prompt.from_text(" ")), "empty_prompt"),
        (pair(prompt=Prompt.of([])), "empty_prompt"),
        (pair(prompt=Prompt.of([{"role": "system", "content": "Be brief."}])), "empty_prompt"),
        (pair("No.\x00"), "control_character"),
        (pair("No.\x1b[0m"), "control_character"),
        (pair("No.\ud83d"), "bad_unicode"),
        (pair(score_chosen=7.0, score_rejected=7.0), "tie"),
    ],
)
def test_what_cannot_be_trained_on_is_left_out(faulty: PreferencePair, code: str) -> None:
    assert outcome(faulty) == (0, [(code, "drop")])


def test_scores_that_contradict_the_label_are_an_error() -> None:
    assert outcome(pair(score_chosen=2.0, score_rejected=9.0)) == (0, [("score_order", "error")])


@pytest.mark.parametrize(
    ("odd", "code"),
    [
        (pair(score_chosen=7.0), "missing_score"),
        (pair("No.</s>"), "special_token_in_text"),
        (pair(prompt=Prompt.from_text("[INST] Is it late? [/INST]")), "special_token_in_text"),
        (pair(prompt=Prompt.from_text("<|im_start|>user")), "special_token_in_text"),
        (pair("No.", "No.\u200b"), "near_duplicate_responses"),
        (pair("caf\u00e9", "cafe\u0301"), "near_duplicate_responses"),
        (pair("a b", "a\r\nb"), "near_duplicate_responses"),
        (pair(prompt=Prompt.of([{"role": "user", "content": text} for text in ("a", "b")])), "consecutive_roles"),
        (pair(prompt=Prompt.of([{"role": role, "content": "a"} for role in ("user", "assistant")])), "consecutive_roles"),
        (pair(" No."), "outer_whitespace"),
    ],
)
def test_what_is_probably_a_mistake_is_kept_and_counted(odd: PreferencePair, code: str) -> None:
    assert outcome(odd) == (1, [(code, "keep")])


@pytest.mark.parametrize("text", ["two\r\nlines\tand a tab", "好\U0001f44d שלום", "1 < 2 and <b>bold</b>"])
def test_text_that_only_looks_odd_is_kept_to_the_character(text: str) -> None:
    kept, problems = validate([pair(text, prompt=Prompt.from_text(text))])
    assert (kept[0].chosen, kept[0].prompt.text, list(problems)) == (text, text, [])


def test_a_conversation_is_stripped_and_equal_prompts_get_one_id() -> None:
    kept, _ = validate([pair("\nNo. ", prompt=Prompt.from_text(" Is it late?\n")), pair("Never.")])
    assert kept[0].chosen == "No."
    assert kept[0].prompt.id == kept[1].prompt.id


def test_plain_text_keeps_its_outer_whitespace_without_a_note() -> None:
    prompt = Prompt.of([{"role": "user", "content": "Q: late?\nA:"}], rendered=True)
    kept, problems = validate([pair(" No.", " Yes.", prompt=prompt)])
    assert (kept[0].chosen, kept[0].rejected, list(problems)) == (" No.", " Yes.", [])


def test_a_repeated_and_an_exchanged_pair_are_kept_and_point_to_the_first_row() -> None:
    kept, problems = validate([pair("a", "b", row=3), pair("a", "b", row=5), pair("b", "a", row=8)])
    assert len(kept) == 3
    assert [(problem.row, problem.code) for problem in problems] == [(5, "duplicate_row"), (8, "contradiction")]
    assert all("row 3" in problem.found for problem in problems)


def test_every_code_says_what_it_means_and_what_to_change() -> None:
    for code, entry in CODES.items():
        assert entry.meaning
        assert entry.remedy.endswith("."), code
    problem = str(Problem(file="pairs.jsonl", row=7, code="bad_score", verdict="error", found="score_chosen is 'x'"))
    assert problem == (
        "pairs.jsonl row 7: score_chosen is 'x' [bad_score]; the run stops here. Write a number, or null where it is unknown."
    )


def test_pairs_know_their_file_and_row(tmp_path: Path) -> None:
    path = tmp_path / "pairs.jsonl"
    path.write_text("\n" + json.dumps(plain(1)) + "\n\n" + json.dumps(plain(2)))
    pairs, report = load_pairs(path, max_dropped=0.0)
    assert [(each.source, each.row) for each in pairs] == [("pairs.jsonl", 2), ("pairs.jsonl", 4)]
    assert report.lines() == ["pairs.jsonl: 2 rows, 2 pairs"]


def test_the_summary_counts_by_code_and_names_unread_columns(tmp_path: Path) -> None:
    rows = [plain(1), plain(2, chosen=" no"), plain(3, chosen=""), plain(4, mood="calm"), plain(5, chosen=" no"), plain(4)]
    pairs, report = load_pairs(written(tmp_path, rows), max_dropped=0.5)
    assert len(pairs) == 3
    assert report.counts == {"empty_response": 1, "chosen_equals_rejected": 2, "duplicate_row": 1}
    lines = report.lines()
    assert lines[0] == "pairs.jsonl: 6 rows, 3 pairs, 3 left out"
    assert any(line.startswith("  2 x chosen_equals_rejected (rows 2, 5): ") and "left out. Write" in line for line in lines)
    assert lines[-1] == "  columns not read: ['mood']"


def test_the_share_of_dropped_rows_is_allowed_up_to_the_limit_and_not_beyond(tmp_path: Path) -> None:
    path = written(tmp_path, [plain(number) for number in range(19)] + [plain(19, chosen="")])
    assert len(load_pairs(path, max_dropped=0.05)[0]) == 19
    with pytest.raises(DataError) as caught:
        load_pairs(path, max_dropped=0.04)
    assert caught.value.code == "too_many_dropped"
    assert "1 of 20 rows (5.0%)" in str(caught.value)
    assert "1 x empty_response (row 20)" in str(caught.value)
    assert "data.max_dropped=0.05." in str(caught.value)


def test_a_file_without_a_usable_row_is_an_error_at_any_limit(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="none can be trained on"):
        load_pairs(written(tmp_path, [plain(1, chosen=""), plain(2, rejected=" no", chosen=" no")]), max_dropped=1.0)


def test_all_error_rows_are_listed_at_once(tmp_path: Path) -> None:
    rows = [plain(1), plain(2, chosen=True), plain(3, score_chosen="high"), plain(4, score_chosen=1, score_rejected=2)]
    with pytest.raises(DataError) as caught:
        load_pairs(written(tmp_path, rows), max_dropped=1.0)
    message = str(caught.value)
    assert "3 of 4 rows cannot be used" in message
    for row, code in ((2, "wrong_type"), (3, "bad_score"), (4, "score_order")):
        assert any(f"row {row}: " in line and line.endswith(f"[{code}]") for line in message.splitlines())
        assert f"  {code}: {CODES[code].remedy}" in message


def test_twenty_error_rows_are_spelled_out_and_the_others_counted(tmp_path: Path) -> None:
    with pytest.raises(DataError) as caught:
        load_pairs(written(tmp_path, [plain(number, chosen=number) for number in range(1, 31)]), max_dropped=1.0)
    message = str(caught.value)
    assert "30 of 30 rows" in message
    assert "row 20: " in message
    assert "row 21: " not in message
    assert "and 10 more" in message


def test_rows_of_two_layouts_are_an_error_that_names_the_row_and_its_columns(tmp_path: Path) -> None:
    turns = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]
    rows = [plain(1), {"chosen": turns, "rejected": [turns[0], {"role": "assistant", "content": "c"}]}]
    with pytest.raises(DataError, match=r"row 2: columns chosen, rejected are trl_conversational_implicit") as caught:
        load_pairs(written(tmp_path, rows), max_dropped=1.0)
    assert caught.value.code == "mixed_formats"


def test_an_unknown_layout_is_answered_once_with_its_columns_and_what_is_read(tmp_path: Path) -> None:
    with pytest.raises(DataError) as caught:
        load_pairs(written(tmp_path, [{"question": "?", "response_j": "a", "response_k": "b"}] * 3), max_dropped=1.0)
    message = str(caught.value)
    assert caught.value.code == "unknown_layout"
    assert "columns found: question, response_j, response_k" in message
    assert "data.columns.prompt=question data.columns.chosen=response_j data.columns.rejected=response_k" in message
    assert "README.md" in message
    assert message.count("columns found") == 1


def test_prompts_without_responses_lead_to_on_policy_data(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="holds prompts, not pairs") as caught:
        load_pairs(written(tmp_path, [{"id": "1", "prompt": "Is it late?"}]), max_dropped=1.0)
    assert caught.value.code == "prompts_only"
    assert "data=on_policy" in str(caught.value)


def test_a_message_about_half_a_character_can_be_printed(tmp_path: Path) -> None:
    with pytest.raises(DataError) as caught:
        load_pairs(written(tmp_path, [plain(1, chosen="a\ud83d"), {"\ud83d": 1, "chosen": "x"}]), max_dropped=1.0)
    assert str(caught.value).encode("utf-8")


def test_the_example_file_loads_without_a_note() -> None:
    path = Path(__file__).resolve().parents[2] / "docs" / "example_pairs.jsonl"
    pairs, report = load_pairs(path, max_dropped=0.0)
    assert report.lines() == ["example_pairs.jsonl: 40 rows, 40 pairs"]
    assert len({each.prompt.id for each in pairs}) == 40
    assert sum(len(each.prompt.messages) > 1 for each in pairs) == 6
