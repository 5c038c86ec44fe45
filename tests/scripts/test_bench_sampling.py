"""The sampling benchmark: contestants answer alike before they are timed, and unequal answers are not timed."""

from collections.abc import Iterator

import pytest
import torch

from scripts import bench_sampling
from scripts.bench_sampling import Contest, main, unequal

SMALL = ["--layers", "1", "--prompts", "2", "--samples", "2", "--tokens", "3", "--rounds", "1"]


@pytest.fixture(autouse=True)
def _threads() -> Iterator[None]:
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


def test_every_contestant_gives_as_many_tokens_and_the_same_greedy_ones() -> None:
    contest = Contest(layers=1, prompts=2, samples=2, tokens=3)
    with torch.no_grad():
        answers = [each(0.0) for each in (contest.ours, contest.one_by_one, contest.padded)]
        assert unequal(contest) == 0
    assert [len(answer) for answer in answers[0]] == [3] * 4
    assert answers[0] == answers[1] == answers[2]


def test_generate_keeps_keys_and_values_so_that_a_step_reads_one_token_of_each_answer() -> None:
    contest, read = Contest(layers=1, prompts=2, samples=2, tokens=3), list[torch.Size]()
    contest.model.model.register_forward_pre_hook(lambda _, __, named: read.append(named["input_ids"].shape), with_kwargs=True)
    contest.padded(1.0)
    assert [tuple(shape) for shape in read[1:]] == [(4, 1)] * 2


def test_the_table_names_each_contestant_with_its_target(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(SMALL) == 0
    rows = [line for line in capsys.readouterr().out.splitlines() if line.startswith("| o")]
    assert [row.split("|")[1].strip() for row in rows] == ["ours", "one padded generate", "one generate per answer"]
    assert [row.split("|")[4].strip() for row in rows] == ["", "2.2", "4.5"]


def test_nothing_is_timed_where_greedy_tokens_differ(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    right = Contest.ours
    monkeypatch.setattr(Contest, "ours", lambda contest, temperature: [ids[::-1] for ids in right(contest, temperature)])
    monkeypatch.setattr(bench_sampling, "timed", None)
    assert main(SMALL) == 1
    assert "greedy answers are not those of generate" in capsys.readouterr().out
