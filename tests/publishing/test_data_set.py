"""A published preference data set: what other programs read in it is what was paired here."""

import json
import math
from pathlib import Path
from typing import Any

import datasets
import pytest

from dpo_lab.components import ConfigError, RunError
from dpo_lab.data.sources import FilePairs, HubPairs
from dpo_lab.pipeline.pairs import read_pairs
from dpo_lab.publishing.data_set import test_prompts as prompts_of_tests
from dpo_lab.publishing.rows import Round
from dpo_lab.ranking.pairing.base import left_out_text
from dpo_lab.records import Candidates, Prompt
from dpo_lab.stages.publish import Publish
from tests.publishing.made import Lengths, conversations, made_pairs

pytest_plugins = ("tests.data.conftest",)
pytestmark = pytest.mark.usefixtures("library_cache")
SNORKEL = {"prompt_id", "prompt", "chosen", "rejected", "all_generated_responses", "all_rm_scores"}
SPPO = {
    "rm_scores",
    "probability",
    "generate_0",
    "generate_1",
    "generate_2",
    "chosen_probs",
    "chosen_probs_win",
    "chosen_probs_lose",
}


def folder(root: Path, source: Path, **fields: Any) -> Path:
    """Return the folder of a publication."""
    Publish(source=str(source), outputs=root, **{"licence": "cc-by-4.0", **fields}).run()
    (path,) = root.glob("publication/*/repository")
    return path


def read(path: Path) -> Any:
    return datasets.load_dataset(str(path))


def test_the_library_reads_the_splits_and_snorkels_and_sppos_columns(tmp_path: Path) -> None:
    made = made_pairs(tmp_path, conversations(20))
    found = read(folder(tmp_path, made.path, test_share=0.2))
    assert {name: rows.num_rows for name, rows in found.items()} == {"train": 16, "test": 4}
    assert set(found["train"].column_names) >= SNORKEL | SPPO
    assert set(found["train"]["prompt_id"]).isdisjoint(found["test"]["prompt_id"])
    row = next(row for row in found["train"] if row["prompt"] == "Question 4?")
    assert row["chosen"] == [{"content": "Question 4?", "role": "user"}, {"content": "A long answer 4.", "role": "assistant"}]
    assert row["rejected"][-1] == {"content": "No.", "role": "assistant"}
    assert row["all_generated_responses"] == ["No.", "Answer 4.", "A long answer 4."]
    assert row["generate_1"] == "Answer 4."
    assert (row["ranker"], row["temperature"], row["iteration"], row["seed"]) == ("duels", 0.7, 1, "5")


def test_probabilities_are_those_of_sppos_script_on_the_rankers_own_comparisons(tmp_path: Path) -> None:
    """Lengths 3, 9 and 16 at temperature 2: the order cancels, P(i beats j) = sigmoid((len_i - len_j) / 2)."""
    row = read(folder(tmp_path, made_pairs(tmp_path, conversations(1)).path))["train"][0]
    sizes = (3, 9, 16)
    expected = [[1 / (1 + math.exp(-(a - b) / 2)) for b in sizes] for a in sizes]
    assert row["probability"] == pytest.approx([pytest.approx(line) for line in expected])
    best, worst = 2, 0
    assert row["chosen_probs"] == pytest.approx(expected[best][worst])
    assert row["chosen_probs_win"] == pytest.approx(sum(expected[best]) / 3)
    assert row["chosen_probs_lose"] == pytest.approx(sum(expected[worst]) / 3)
    assert row["margin"] == pytest.approx(row["score_chosen"] - row["score_rejected"])


def test_a_ranker_that_gives_no_probability_leaves_those_columns_empty(tmp_path: Path) -> None:
    row = read(folder(tmp_path, made_pairs(tmp_path, conversations(1), Lengths()).path))["train"][0]
    assert [row[name] for name in ("probability", "chosen_probs", "chosen_probs_win", "preference")] == [None] * 4
    assert row["all_rm_scores"] == [3.0, 9.0, 16.0]


def test_this_project_reads_back_the_pairs_that_it_published(tmp_path: Path) -> None:
    made = made_pairs(tmp_path, conversations(7))
    (given,) = FilePairs(path=folder(tmp_path, made.path, test_share=0), held_out=0).load()
    kept = [(each.prompt, each.chosen, each.rejected, each.scores, each.preference, each.finished) for each in given.train]
    assert kept == [
        (pair.prompt, pair.chosen, pair.rejected, pair.scores, pair.preference, pair.finished) for pair in read_pairs(made)
    ]


def test_a_prompt_that_never_meets_a_chat_template_is_refused(tmp_path: Path) -> None:
    plain = Candidates(prompt=Prompt.of([{"role": "user", "content": "Plain: "}], rendered=True), responses=("a", "bb"))
    with pytest.raises(RunError, match="plain text that never meets a chat template"):
        folder(tmp_path, made_pairs(tmp_path, [plain]).path)


def test_a_prompt_is_held_out_in_every_round_or_in_none(tmp_path: Path) -> None:
    ids = [f"{number}" for number in range(50)]
    assert prompts_of_tests(ids, 0.1) == prompts_of_tests(reversed(ids), 0.1)
    assert len(prompts_of_tests(ids, 0.1)) == 5


def test_the_answer_with_the_pairs_score_is_the_chosen_one_of_two_equal_texts(tmp_path: Path) -> None:
    sets = [Candidates(prompt=Prompt.from_text("Why?"), responses=("long one", "no", "long one"))]
    made = made_pairs(tmp_path, sets)
    row = read(folder(tmp_path, made.path))["train"][0]
    assert row["chosen_probs_win"] == pytest.approx((0.5 + 0.5 + 1 / (1 + math.exp(-3))) / 3)


HOSTILE = (
    "---\nlicense: mit\n---\n# Title <script>alert(1)</script>\n```\n````text\n| a | b |\x1b[2J\x00\u202e\u2028@everyone "
    "[x](javascript:alert(1)) $$x$$"
)


def test_hostile_texts_reach_the_rows_whole_and_cannot_break_the_card(tmp_path: Path) -> None:
    from huggingface_hub import DatasetCard

    sets = [Candidates(prompt=Prompt.from_text(HOSTILE), responses=(f"{HOSTILE}{end}", end)) for end in ("!", "?")]
    path = folder(tmp_path, made_pairs(tmp_path, sets).path, licence="x: y\n---\n| <b>", test_share=0)
    row = read(path)["train"][0]
    assert row["prompt"] == HOSTILE
    card = DatasetCard.load(path / "README.md")
    assert card.data.to_dict()["license"] == "other"
    assert card.data.to_dict()["license_name"] == "x-y-b"
    assert card.text.lstrip().startswith("# Preference pairs")
    outside = card.text.split("`````text")[0] + card.text.rpartition("\n`````\n")[2]
    assert "<script" not in outside
    assert "<b>" not in outside
    assert not set("\x1b\x00\u202e\u2028") & set(card.text)
    fences = [line for line in card.text.splitlines() if line.startswith("`````")]
    assert fences == ["`````text", "`````"] * 2  # prompt and one answer; the other answer needs three


def test_an_unknown_licence_is_refused_and_nothing_is_written(tmp_path: Path) -> None:
    made = made_pairs(tmp_path, conversations(2))
    with pytest.raises(ConfigError, match=r"the licence of the training pairs .* is not known.*licence=ID"):
        Publish(source=str(made.path), outputs=tmp_path).run()
    assert not list(tmp_path.glob("publication/*/manifest.json"))


def test_a_ranking_that_is_gone_is_named(tmp_path: Path) -> None:
    made = made_pairs(tmp_path, conversations(2))
    (ranking,) = (path for path in tmp_path.glob("ranking/*") if path.is_dir())
    (ranking / "manifest.json").unlink()
    with pytest.raises(ConfigError, match="the ranking that it was made from is not below"):
        Round.of(1, made, "")


def test_no_pairs_are_no_data_set(tmp_path: Path) -> None:
    sets = [Candidates(prompt=Prompt.from_text("Why?"), responses=("same", "same"))]
    with pytest.raises(RunError, match="has no pairs, so there is nothing to publish"):
        folder(tmp_path, made_pairs(tmp_path, sets).path)


def test_prompts_without_a_usable_pair_are_counted_on_the_screen_and_in_the_card(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    undecided = [Candidates(prompt=Prompt.from_text(f"Same {number}?"), responses=("same", "same")) for number in range(2)]
    path = folder(tmp_path, made_pairs(tmp_path, [*conversations(4), *undecided]).path)
    why = left_out_text({"ties": 2})
    assert f"  2 of 6 prompts without a usable pair ({why})\n" in capsys.readouterr().out
    table = (path / "README.md").read_text().partition("## How it was made")[2].partition("##")[0].strip().splitlines()
    names, _, row = (line.split(" | ") for line in table[-3:])
    assert row[names.index("prompts without a pair")] == "2"
    assert row[names.index("left out")] == why


def test_a_folder_that_was_changed_since_it_was_shown_is_refused(tmp_path: Path) -> None:
    made = made_pairs(tmp_path, conversations(3))
    path = folder(tmp_path, made.path)
    (path / "README.md").write_text("mine")
    with pytest.raises(RunError, match=r"was changed since it was shown \(repository/README.md has 4 bytes"):
        folder(tmp_path, made.path)
    assert (path / "README.md").read_text() == "mine"
    assert (folder(tmp_path, made.path, force=True) / "README.md").read_text() != "mine"


def test_what_would_leave_the_machine_is_shown(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder(tmp_path, made_pairs(tmp_path, conversations(4)).path, test_share=0.5)
    said = capsys.readouterr().out
    assert "3 files" in said
    assert "train 2 rows, test 2 rows" in said
    for name in ("prompt: 'Question", "chosen: 'A long answer", "rejected: 'No.'", "nothing has left this machine"):
        assert name in said


def test_the_replica_of_snorkels_set_has_no_column_that_ours_lacks(tmp_path: Path, shared_data: Path) -> None:
    theirs = read(shared_data / "hub_layout" / "Snorkel-style-PairRM-DPO")["train_iteration_1"]
    ours = read(folder(tmp_path, made_pairs(tmp_path, conversations(2)).path))["train"]
    for name, kind in theirs.features.items():
        assert json.dumps(str(ours.features[name])) == json.dumps(str(kind)), name


def test_splits_by_round_are_read_as_rounds(tmp_path: Path) -> None:
    from dpo_lab.publishing.data_set import write_data_set

    rounds = [
        Round.of(number, made_pairs(tmp_path, conversations(10 * number)[-10:], name=f"round{number}"), "") for number in (1, 2)
    ]
    (tmp_path / "set").mkdir()
    splits = write_data_set(rounds, tmp_path / "set", 0.2)
    assert sum(splits.values()) == 20
    names = ("train_iteration_1", "train_iteration_2")
    data = HubPairs(path=str(tmp_path / "set"), splits=names).load(rounds=2)
    assert [len(each.train) for each in data] == [splits[name] for name in names]
