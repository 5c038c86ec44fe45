"""Ranked lists (pairing=all_k) and the data's own answers against drawn ones (pairing=spin) as published data sets."""

from pathlib import Path
from typing import Any

import datasets
import pytest

from dpo_lab.data.sources import FilePairs
from dpo_lab.pipeline.pairs import paired_with_data
from dpo_lab.ranking.pairing.against_data import Spin
from dpo_lab.ranking.pairing.whole_lists import AllK
from dpo_lab.stages.publish import Publish
from tests.publishing.made import conversations, made_answers, made_pairs
from tests.publishing.test_data_set import SNORKEL, SPPO

pytest_plugins = ("tests.data.conftest",)
pytestmark = pytest.mark.usefixtures("library_cache")


def published(root: Path, source: Path) -> tuple[Any, Path]:
    Publish(source=str(source), outputs=root, licence="cc-by-4.0", test_share=0.2).run()
    (path,) = root.glob("publication/*/repository")
    return datasets.load_dataset(str(path)), path


def test_a_ranked_list_is_a_row_with_its_answers_in_order(tmp_path: Path) -> None:
    made = made_pairs(tmp_path, conversations(20), pairing=AllK())
    found, path = published(tmp_path, made.path)
    assert {name: rows.num_rows for name, rows in found.items()} == {"train": 16, "test": 4}
    assert set(found["train"].column_names) >= SNORKEL | SPPO | {"ranked_answers", "ranked_scores"}
    row = next(row for row in found["train"] if row["prompt"] == "Question 4?")
    assert row["ranked_answers"] == ["A long answer 4.", "Answer 4.", "No."]
    assert row["ranked_scores"] == sorted(row["all_rm_scores"], reverse=True)
    assert (row["score_chosen"], row["score_rejected"]) == (row["ranked_scores"][0], row["ranked_scores"][-1])
    assert [row[name][-1]["content"] for name in ("chosen", "rejected")] == ["A long answer 4.", "No."]
    assert row["all_generated_responses"] == ["No.", "Answer 4.", "A long answer 4."]
    card = (path / "README.md").read_text()
    assert "20 ranked lists of answers: answers to prompts, ranked by" in card
    assert "the ranked list, best answer first" in card
    (given,) = FilePairs(path=path).load()
    assert {(pair.chosen, pair.rejected) for pair in given.train} >= {("A long answer 4.", "No.")}


def test_pairs_of_the_datas_own_answers_say_that_nobody_ranked(tmp_path: Path) -> None:
    sets = conversations(10)
    own = {each.prompt.id: f"Own answer {number}." for number, each in enumerate(sets)}
    made = paired_with_data(made_answers(tmp_path, sets), own, Spin(), root=tmp_path, name="small", force=False)
    found, path = published(tmp_path, made.path)
    assert sum(rows.num_rows for rows in found.values()) == 30
    assert set(found["train"].column_names) >= SNORKEL | SPPO | {"generate_3"}
    assert "ranked_answers" not in found["train"].column_names
    row = next(row for row in found["train"] if row["prompt"] == "Question 4?")
    assert row["chosen"][-1]["content"] == "Own answer 4."
    assert row["rejected"][-1]["content"] in ("No.", "Answer 4.", "A long answer 4.")
    assert row["all_generated_responses"] == ["Own answer 4.", "No.", "Answer 4.", "A long answer 4."]
    assert [row[name] for name in ("all_rm_scores", "rm_scores", "ranker", "margin", "chosen_probs", "probability")] == [None] * 6
    assert row["temperature"] == 0.7
    card = (path / "README.md").read_text()
    assert "30 preference pairs: answers to prompts, the data's own preferred to those that a model drew" in card
    assert "nobody compared the two" in card
    (given,) = FilePairs(path=path).load()
    assert len(given.train) + len(given.held_out) == 30
