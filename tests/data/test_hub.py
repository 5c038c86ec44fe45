"""Facts about data sets in Hub layout: which rows they give, what is left untouched, what is said when they cannot be had."""

import logging
import weakref
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from dpo_lab.components import ConfigError
from dpo_lab.data.base import GivenPairs
from dpo_lab.data.load import Adapted, load_pairs, usable
from dpo_lab.data.pairs import pair_of
from dpo_lab.data.problems import DataError
from dpo_lab.data.sources import FilePairs, HubPairs
from dpo_lab.records import PreferencePair
from tests.data.fake_hub import COMMIT, NAME
from tests.data.hub_directories import SPLITS, card_of, refused, rows, scored_row, snorkel_style, written

pytestmark = pytest.mark.usefixtures("library_cache")


def first(path: Path, **fields: Any) -> GivenPairs:
    return FilePairs(path=path, **fields).load()[0]


def prompts(pairs: list[PreferencePair]) -> set[str]:
    return {pair.prompt.text for pair in pairs}


# ---------------------------------------------------------------- the rows
def test_what_a_column_says_is_found_by_each_pair_s_file_and_row(tmp_path: Path) -> None:
    table = [{**row, "topic": f"topic{number}"} for number, row in enumerate(rows(8))]
    path = written(tmp_path / "set", {"train.jsonl": table[:5], "test.jsonl": table[5:]})
    values, given = FilePairs(path=path).values_of("topic"), first(path)
    found = {pair.prompt.text: values[pair.source, pair.row] for pair in given.train + given.held_out}
    assert found == {row["prompt"]: row["topic"] for row in table}
    assert len(values) == 8


def test_parquet_rows_are_pairs_with_their_scores_and_their_file_split_and_row(tmp_path: Path) -> None:
    given = HubPairs(path=str(snorkel_style(tmp_path / "set")), splits=SPLITS).load()[0]
    pair = given.train[2]
    assert (pair.prompt.text, pair.chosen, pair.rejected) == ("Question 102?", "a", "c")
    assert (pair.score_chosen, pair.score_rejected) == (2.0, -1.0)
    assert (pair.source, pair.row) == ("set/data/train_iteration_1-00000-of-00001.parquet (split train_iteration_1)", 3)


def test_each_round_has_its_split_and_the_test_split_of_the_same_name(tmp_path: Path) -> None:
    data = HubPairs(path=str(snorkel_style(tmp_path / "set")), splits=SPLITS)
    one, two = data.load(rounds=2)
    assert prompts(one.train) == {f"Question {100 + n}?" for n in range(10)}
    assert prompts(one.held_out) == {f"Question {150 + n}?" for n in range(3)}
    assert prompts(two.train) == {f"Question {200 + n}?" for n in range(10)}
    assert prompts(two.held_out) == {f"Question {250 + n}?" for n in range(3)}
    assert len(data.load()) == 1


def test_without_a_test_split_prompts_of_the_training_split_are_held_out(tmp_path: Path) -> None:
    path = str(snorkel_style(tmp_path / "set", test=False))
    one, two = HubPairs(path=path, splits=SPLITS).load(rounds=2)
    assert [(len(each.train), len(each.held_out)) for each in (one, two)] == [(8, 2), (8, 2)]
    assert prompts(one.train).isdisjoint(prompts(one.held_out))


def test_the_split_for_evaluation_can_be_named(tmp_path: Path) -> None:
    data = HubPairs(path=str(snorkel_style(tmp_path / "set")), splits=SPLITS)
    swapped = replace(data, held_out_splits=("test_iteration_2", "test_iteration_1")).load()[0]
    assert prompts(swapped.held_out) == {f"Question {250 + n}?" for n in range(3)}
    itself = replace(data, held_out_splits=SPLITS).load()[0]
    assert (len(itself.train), len(itself.held_out)) == (8, 2)
    with pytest.raises(ValueError, match="there are 2 training splits and 1 for evaluation"):
        replace(data, held_out_splits=("test_iteration_2",))


def test_no_round_trains_on_a_prompt_that_another_one_evaluates(tmp_path: Path) -> None:
    path = snorkel_style(tmp_path / "set")
    written(path, {"data/test_iteration_2-00000-of-00001.parquet": [scored_row(104, [1.0, 0.0]), scored_row(250, [1.0, 0.0])]})
    one, two = HubPairs(path=str(path), splits=SPLITS).load(rounds=2)
    assert prompts(two.held_out) == {"Question 104?", "Question 250?"}
    assert "Question 104?" not in prompts(one.train)
    assert "1 training pairs answer a prompt that is held out, and are left out" in one.notes
    assert len(two.train) == 10


def test_as_many_prompts_of_the_test_split_are_held_out_as_asked_for(tmp_path: Path) -> None:
    path = snorkel_style(tmp_path / "set")
    fields = {"split": "train_iteration_1"}
    assert [len(first(path, held_out=count, **fields).held_out) for count in (0, 2, None)] == [0, 2, 3]
    assert len(first(path, held_out=0, **fields).train) == 10
    assert "data.held_out=4, and the split for evaluation has 3 prompts" in str(refused(path, held_out=4, **fields))


@pytest.mark.parametrize("name", ["train.jsonl", "train.jsonl.gz", "data/train-00000-of-00001.parquet"])
def test_a_directory_gives_the_pairs_that_its_file_gives(tmp_path: Path, name: str) -> None:
    table = [*rows(20), {"prompt": "q?", "chosen": " same", "rejected": "same "}]
    file = written(tmp_path / "file", {"pairs.jsonl": table}) / "pairs.jsonl"
    alone, report = load_pairs(file, max_dropped=0.05)
    given = first(written(tmp_path / "set", {name: table}), held_out=0)
    place = f"set/{name} (split train)"
    assert given.train == [replace(pair, source=place) for pair in alone]
    assert list(given.notes) == [line.replace("pairs.jsonl", place) for line in report.lines()]
    of_file = FilePairs(path=file)
    assert [prompts(side) for side in (first(file).train, first(file).held_out)] == [
        prompts(side) for side in (first(tmp_path / "set").train, first(tmp_path / "set").held_out)
    ]
    assert of_file.label == "pairs"


def test_rows_of_several_files_are_counted_in_their_file(tmp_path: Path) -> None:
    bad = {"prompt": "q?", "chosen": " ", "rejected": "no"}
    path = written(
        tmp_path / "set", {"data/train-00000-of-00002.parquet": rows(3), "data/train-00001-of-00002.parquet": [*rows(2, 3), bad]}
    )
    given = first(path, held_out=0, max_dropped=0.5)
    assert [(pair.source, pair.row) for pair in given.train[2:]] == [
        ("set/data/train-00000-of-00002.parquet", 3),
        ("set/data/train-00001-of-00002.parquet", 1),
        ("set/data/train-00001-of-00002.parquet", 2),
    ]
    assert given.notes[0] == "set (split train): 6 rows, 5 pairs, 1 left out"
    assert given.notes[1].startswith("  1 x empty_response (set/data/train-00001-of-00002.parquet row 3): ")


def test_error_rows_are_listed_by_row(tmp_path: Path) -> None:
    path = written(tmp_path / "set", {"train.parquet": [scored_row(1, [2.0, 1.0]), scored_row(2, [1.0, 2.0])]})
    with pytest.raises(DataError) as caught:
        first(path)
    assert str(caught.value).splitlines()[:2] == [
        "set/train.parquet (split train): 1 of 2 rows cannot be used, so the run stops before anything is trained.",
        "  row 2: the score of chosen, 1.0, is below that of rejected, 2.0 [score_order]",
    ]


def test_the_card_says_which_files_are_which_split_and_which_configuration(tmp_path: Path) -> None:
    card = "configs:\n" + "".join(f"- config_name: {name}\n  data_files: {name}/*.jsonl\n" for name in ("one", "two"))
    path = written(tmp_path / "set", {"one/x.jsonl": rows(3), "two/x.jsonl": rows(4)}, card)
    assert len(first(path, config="two", held_out=0).train) == 4
    assert str(refused(path)) == f"{path} has the configurations one, two, and none is chosen. Choose with data.config=NAME."
    assert "data.config=three does not exist" in str(refused(path, config="three"))


def test_the_split_is_train_or_the_only_one_or_named(tmp_path: Path) -> None:
    path = written(tmp_path / "one", {"validation.jsonl": rows(6)})
    assert len(first(path).train) == 5
    path = written(tmp_path / "two", {"data/a-0.jsonl": rows(3), "data/b-0.jsonl": rows(4)}, card_of("a", "b"))
    assert "several splits and none is called train; it has a, b. Choose with data.split=" in str(refused(path))
    assert "has no split 'c'; it has a, b" in str(refused(path, split="c"))
    assert "Choose with data.held_out_split=" in str(refused(path, split="a", held_out_split="c"))
    given = first(path, split="a", held_out_split="b")
    assert (len(given.train), len(given.held_out)) == (0, 4), "every prompt of a is held out in b"


def test_a_file_has_no_splits(tmp_path: Path) -> None:
    path = written(tmp_path, {"pairs.jsonl": rows(6)}) / "pairs.jsonl"
    with pytest.raises(ConfigError, match=r"^data.split=train: .*pairs.jsonl is not a directory, and a file has no splits"):
        first(path, split="train")


def test_rows_are_not_held_while_they_become_pairs() -> None:
    alive, most = weakref.WeakSet[Any](), 0

    class Row(dict[str, Any]):
        __hash__ = object.__hash__  # type: ignore[assignment]

    def stream() -> Iterator[tuple[str, int, Row]]:
        nonlocal most
        for number, row in enumerate(rows(50), 1):
            made = Row(row)
            alive.add(made)
            most = max(most, len(alive))
            yield "file", number, made

    pairs, _ = usable("file", "file", Adapted(stream(), pair_of), 0.0, at_most=50)
    assert (len(pairs), most) == (50, 2), "the row at hand and the one that comes"


# ---------------------------------------------------------------- what is left as it is
def test_nothing_is_written_beside_the_data_or_said_by_the_library(
    tmp_path: Path, library_cache: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    path = snorkel_style(tmp_path / "set")
    before = {each: each.stat().st_mtime_ns for each in path.rglob("*")}
    path.chmod(0o555)
    (path / "data").chmod(0o555)
    first(path, split="train_iteration_1")
    assert {each: each.stat().st_mtime_ns for each in path.rglob("*")} == before
    assert list(library_cache.rglob("*.arrow"))
    assert capfd.readouterr() == ("", "")


def test_log_lines_of_the_library_are_silent_for_the_time_of_reading(tmp_path: Path) -> None:
    heard: list[str] = []

    class Ear(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            heard.append(record.getMessage())

    ear, logger = Ear(), logging.getLogger("datasets")
    logger.addHandler(ear)
    try:
        refused(written(tmp_path / "set", {"train.parquet": b"PAR1 and no more"}))
        assert heard == []
        logger.error("later")
        assert heard == ["later"]
    finally:
        logger.removeHandler(ear)


def test_changed_rows_are_read_again(tmp_path: Path) -> None:
    path = written(tmp_path / "set", {"train.jsonl": rows(6)})
    assert len(first(path, held_out=0).train) == 6
    written(path, {"train.jsonl": rows(7)})
    assert len(first(path, held_out=0).train) == 7


def test_a_directory_counts_by_its_content_and_not_by_its_place(tmp_path: Path) -> None:
    one, two = (snorkel_style(tmp_path / name / "set") for name in ("a", "b"))
    data = HubPairs(path=str(one), splits=SPLITS)
    assert data.content() == replace(data, path=str(two), revision="main", max_dropped=0.5).content()
    assert FilePairs(path=one).content() == FilePairs(path=two).content()
    written(two, {".cache/huggingface/what.metadata": b"a download's own notes"})
    assert FilePairs(path=one).content() == FilePairs(path=two).content()
    written(two, {"data/train_iteration_1-00000-of-00001.parquet": rows(2)})
    assert data.content() != replace(data, path=str(two)).content()
    assert FilePairs(path=one).content() != FilePairs(path=two).content()
    assert HubPairs(path=NAME, splits=SPLITS).content() != HubPairs(path=NAME, splits=SPLITS, revision=COMMIT).content()
