"""Facts about real and broken data sets beside the checkout; skipped where they are absent."""

import json
from pathlib import Path
from typing import Any

import pytest

from dpo_lab.data.files import Rows
from dpo_lab.data.load import Adapted, load_pairs
from dpo_lab.data.pairs import pair_of
from dpo_lab.data.problems import DataError, Problem
from dpo_lab.data.sources import FilePairs, HubPairs
from dpo_lab.data.validation import validate

DECIDED_BY_THE_TOKENIZER = {"very_long_prompt": "prompt_too_long", "very_long_response": "response_too_long"}
"""Rows whose expected code needs token counts; here they are kept."""
NEED_ANOTHER_ROW = {"duplicate_of_first", "swapped_duplicate"}
"""Rows that are only odd beside the row named first_row."""
SUPPORTED = (
    "trl_plain_explicit",
    "trl_plain_implicit",
    "trl_conversational_explicit",
    "trl_conversational_implicit",
    "hh_transcript",
)


MAPPED = {
    "stack_exchange_paired.jsonl": "prompt=question chosen=response_j rejected=response_k",
    "tool_calls.jsonl": "prompt=prompt chosen=chosen rejected=rejected",
    "shp.jsonl": "prompt=history chosen=human_ref_A rejected=human_ref_B",
    "summarize_from_feedback.jsonl": "prompt=info.post chosen=summaries.0.text rejected=summaries.1.text",
}
"""What the refusal of a file says to type."""


def examined(*rows: dict[str, Any]) -> tuple[int, list[Problem]]:
    """Return how many of the rows, read as one file, are kept, and what was found."""
    adapted = Adapted((("rows.jsonl", number, row) for number, row in enumerate(rows, 1)), pair_of, sample=rows)
    kept, found = validate(adapted)
    return len(kept), [*adapted.problems, *found]


def test_every_edge_row_alone_gets_its_action_and_code(shared_data: Path) -> None:
    cases = [case for _, case in Rows(shared_data / "edge_cases" / "rows.jsonl")]
    assert len(cases) == 42
    for case in cases:
        if case["id"] in NEED_ANOTHER_ROW:
            continue
        num_kept, problems = examined(case["row"])
        if case["id"] in DECIDED_BY_THE_TOKENIZER:
            assert case["code"] == DECIDED_BY_THE_TOKENIZER[case["id"]]
            assert num_kept == 1
            assert {problem.code for problem in problems} == {"outer_whitespace"}, "the repeated word ends with a space"
            continue
        expected = [(case["code"], case["expected_action"])] if case["code"] else []
        assert [(problem.code, problem.verdict) for problem in problems] == expected, case["id"]
        assert num_kept == (case["expected_action"] == "keep"), case["id"]


def test_edge_rows_that_repeat_the_first_row_are_noted_beside_it(shared_data: Path) -> None:
    cases = {case["id"]: case for _, case in Rows(shared_data / "edge_cases" / "rows.jsonl")}
    for name in NEED_ANOTHER_ROW:
        num_kept, problems = examined(cases["first_row"]["row"], cases[name]["row"])
        assert num_kept == 2
        assert [(problem.row, problem.code) for problem in problems] == [(2, cases[name]["code"])]


def test_every_edge_file_gets_its_code_or_loads(shared_data: Path) -> None:
    expected = json.loads((shared_data / "edge_cases" / "files_expected.json").read_text())
    files = sorted((shared_data / "edge_cases" / "files").iterdir())
    assert {path.name for path in files} == set(expected)
    rows = {"utf8_bom.jsonl": 1, "blank_lines_and_no_final_newline.jsonl": 2, "jsonl_named.json": 2}
    said = {
        "latin1.jsonl": "line 1 holds 0xF9 at byte offset 13",
        "truncated_last_line.jsonl": "line 2",
        "not_a_list.json": "found an object with the key data",
        "mixed_columns.jsonl": "row 2 has the columns question, response_j, response_k",
        "git_lfs_pointer.jsonl": "Git LFS pointer, not the data",
        "nan_literal.jsonl": "NaN, which is neither JSON nor a score",
        "empty.jsonl": "no rows",
    }
    for path in files:
        if path.name in rows:
            assert len(load_pairs(path, max_dropped=0.0)[0]) == rows[path.name]
            continue
        with pytest.raises(DataError) as caught:
            load_pairs(path, max_dropped=1.0)
        assert caught.value.code == expected[path.name]["code"]
        assert said[path.name] in str(caught.value)


@pytest.mark.parametrize("layout", SUPPORTED)
def test_every_row_of_a_known_layout_becomes_the_expected_record(shared_data: Path, layout: str) -> None:
    expected = json.loads((shared_data / "formats" / "expected.json").read_text())["files"][f"{layout}.jsonl"]["expected"]
    path = shared_data / "formats" / f"{layout}.jsonl"
    pairs, report = load_pairs(path, max_dropped=0.0)
    assert len(pairs) == len(expected)
    assert report.counts == {}
    for pair, (_, row), record in zip(pairs, Rows(path), expected, strict=True):
        found = pair.to_record("train")
        if layout == "trl_plain_implicit":
            assert pair.prompt.text.startswith(record["longest_common_prefix_at_least"])
            assert [pair.prompt.text + pair.chosen, pair.prompt.text + pair.rejected] == [row["chosen"], row["rejected"]]
        elif layout == "trl_plain_explicit":
            assert pair.prompt.rendered
            assert (pair.prompt.text, pair.chosen, pair.rejected) == tuple(
                record[f"{name}_text"] for name in ("prompt", "chosen", "rejected")
            )
        else:
            assert {name: found[name] for name in record} == record


def test_the_benign_hh_rows_all_load(shared_data: Path) -> None:
    pairs, report = load_pairs(shared_data / "hh" / "harmless_benign.jsonl", max_dropped=0.0)
    assert len(pairs) == 94
    assert report.counts == {"consecutive_roles": 1, "outer_whitespace": 1}


def test_the_faulty_hh_rows_are_one_note_and_three_drops(shared_data: Path) -> None:
    path = shared_data / "hh" / "edge_rows.jsonl"
    pairs, report = load_pairs(path, max_dropped=0.75)
    assert [pair.row for pair in pairs] == [1]
    assert [(problem.row, problem.code) for problem in report.of("drop")] == [
        (2, "empty_response"),
        (3, "empty_response"),
        (4, "prompt_mismatch"),
    ]
    assert [problem.row for problem in report.problems if problem.code == "consecutive_roles"] == [1]
    with pytest.raises(DataError, match=r"3 of 4 rows \(75\.0%\)"):
        load_pairs(path, max_dropped=0.05)


def test_two_of_400_instruction_rows_prefer_a_text_to_itself(shared_data: Path) -> None:
    path = shared_data / "instruction" / "preference.json"
    pairs, report = load_pairs(path, max_dropped=0.05)
    assert (report.num_rows, len(pairs), len({pair.prompt.id for pair in pairs})) == (400, 398, 397)
    assert report.counts == {"chosen_equals_rejected": 2}
    assert report.unread_columns == ("output",)
    source = dict(Rows(path))
    for pair in pairs:
        row = source[pair.row]
        assert pair.prompt.text == (row["instruction"] + "\n\n" + row["input"] if row["input"] else row["instruction"])


@pytest.mark.usefixtures("library_cache")
def test_the_replica_of_the_snorkel_set_gives_three_rounds_with_scores(shared_data: Path) -> None:
    path = shared_data / "hub_layout" / "Snorkel-style-PairRM-DPO"
    splits = tuple(f"train_iteration_{number}" for number in (1, 2, 3))
    rounds = HubPairs(path=str(path), splits=splits, max_dropped=0.1).load(rounds=3)
    assert [(len(one_round.train), len(one_round.held_out)) for one_round in rounds] == [(9, 2), (10, 2), (10, 2)], (
        "one answer is empty"
    )
    for pair in (pair for one_round in rounds for pair in (*one_round.train, *one_round.held_out)):
        assert pair.score_chosen is not None
        assert pair.score_rejected is not None
        assert pair.score_chosen > pair.score_rejected
    assert (rounds[0].train[0].score_chosen, rounds[0].train[0].score_rejected) == (2.0, -1.0)
    alone = FilePairs(path=path, split="train_iteration_2").load()[0]
    assert [alone.train, alone.held_out] == [rounds[1].train, rounds[1].held_out]


@pytest.mark.usefixtures("library_cache")
def test_the_replica_of_hh_has_its_94_transcripts_in_two_splits(shared_data: Path) -> None:
    alone, _ = load_pairs(shared_data / "hh" / "harmless_benign.jsonl", max_dropped=0.0)
    for path in (shared_data / "hub_layout" / "hh-rlhf", shared_data / "hub_layout" / "hh-rlhf" / "harmless-base"):
        given = FilePairs(path=path).load()[0]
        assert (len(given.train), len(given.held_out)) == (70, 24)
        assert {pair.id for pair in (*given.train, *given.held_out)} == {pair.id for pair in alone}


def test_a_file_of_prompts_is_answered_with_on_policy(shared_data: Path) -> None:
    with pytest.raises(DataError, match="data=on_policy"):
        load_pairs(shared_data / "prompts" / "prompts.jsonl", max_dropped=0.05)


def test_other_formats_are_read_rightly_or_refused_by_their_columns(shared_data: Path) -> None:
    expected = json.loads((shared_data / "formats" / "expected.json").read_text())["files"]
    read = {
        "alpaca_ranking.json": 3,
        "argilla_dpo_mix.jsonl": 4,
        "argilla_instruction.jsonl": 3,
        "distilabel_orca.jsonl": 2,
        "intel_orca.jsonl": 3,
        "llamafactory_v1.jsonl": 5,
        "sharegpt_ranking.json": 5,
        "snorkel_pairrm.jsonl": 3,
        "ultrafeedback_binarized.jsonl": 3,
    }
    for name in set(expected) - {f"{layout}.jsonl" for layout in SUPPORTED}:
        path = shared_data / "formats" / name
        if name in read:
            records = [pair.to_record("train") for pair in load_pairs(path, max_dropped=0.34)[0]]
            assert len(records) == read[name]
            for record, wanted in zip(records, [each for each in expected[name]["expected"] if "skip" not in each], strict=True):
                assert [record[part] for part in ("chosen", "rejected")] == [wanted[part] for part in ("chosen", "rejected")]
                scores = [record[f"score_{part}"] for part in ("chosen", "rejected")]
                assert scores == [wanted.get("score_chosen"), wanted.get("score_rejected")] or "ultrafeedback" in name
                assert record["prompt"] == wanted["prompt"] or name == "alpaca_ranking.json", (
                    "LLaMA-Factory joins with one newline"
                )
            continue
        with pytest.raises(DataError) as caught:
            load_pairs(path, max_dropped=1.0)
        codes = {
            "prompt_chosen_rejected.csv": "unknown_suffix",
            "tool_calls.jsonl": "unread_input",
            "kto_plain.jsonl": "unpaired_labels",
        }
        assert caught.value.code == codes.get(name, "unknown_layout"), name
        assert name not in MAPPED or f"data.columns.{' data.columns.'.join(MAPPED[name].split())}" in str(caught.value), name
