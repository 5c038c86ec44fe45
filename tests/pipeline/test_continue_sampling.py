"""Sampling, ranking and evaluation resume after a kill at any batch, without losing or repeating a row."""

import signal
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from torch import nn

from dpo_lab import continuing
from dpo_lab.artifacts import MANIFEST, Artifact
from dpo_lab.cli.main import signals_as_exceptions
from dpo_lab.cli.session import Stopped
from dpo_lab.continuing import KEPT, kept_part
from dpo_lab.data.pairs import PAIRS
from dpo_lab.data.prompts import FilmPrompts
from dpo_lab.evaluation.base import Measure, Setting
from dpo_lab.evaluation.context import Context, HeldOut
from dpo_lab.evaluation.generation import GenerationEvaluation
from dpo_lab.evaluation.intervals import OBSERVED
from dpo_lab.evaluation.preference import PreferenceEvaluation
from dpo_lab.losses.wpo import WPOLoss
from dpo_lab.models.load import ModelOnDisk, save_model
from dpo_lab.pipeline.answers import CANDIDATES
from dpo_lab.pipeline.evaluation import ANSWERS, evaluate
from dpo_lab.pipeline.on_policy import OnPolicy
from dpo_lab.pipeline.pairs import read_pairs
from dpo_lab.pipeline.ranking import PAGE, REPORT
from dpo_lab.ranking.base import Verdict
from dpo_lab.ranking.pairing import BestVsWorst
from dpo_lab.records import Candidates
from dpo_lab.reference.frozen import FrozenReference
from dpo_lab.sampling.hf import HFSampler, OpenHFSampler
from dpo_lab.stages.train import Train
from dpo_lab.tokens.store import TokenStore
from tests.small_stage import ShareOfVowels, request, stage

PROMPTS = FilmPrompts(num_prompts=12)
SAMPLER = HFSampler(num_samples=2, max_new_tokens=6, batch_size=8)  # 4 prompts per batch: 3 batches
DATA = OnPolicy(prompts=PROMPTS, sampler=SAMPLER, ranker=ShareOfVowels(), pairing=BestVsWorst())
EVALUATION = GenerationEvaluation(prompts=PROMPTS, sampler=SAMPLER, judge=ShareOfVowels(), num_samples=2, max_prompts=12)
Count = list[int]


@pytest.fixture(autouse=True)
def small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dpo_lab.ranking.base.PROMPTS_AT_A_TIME", 4)
    monkeypatch.setattr("dpo_lab.scoring.passes.TOKENS_PER_BATCH", 200)


@pytest.fixture
def policy(model: nn.Module, tokenizer: Any, tmp_path: Path) -> ModelOnDisk:
    save_model(model, tokenizer, tmp_path / "policy", base_path="")
    return ModelOnDisk(str(tmp_path / "policy"), "policy")


@pytest.fixture
def before(other_model: nn.Module, tokenizer: Any, tmp_path: Path) -> ModelOnDisk:
    save_model(other_model, tokenizer, tmp_path / "before", base_path="")
    return ModelOnDisk(str(tmp_path / "before"), "before")


@contextmanager
def counted(monkeypatch: pytest.MonkeyPatch, die: Callable[[], Any] = lambda: None, at: int = -1) -> Iterator[list[str]]:
    """Note the file of every batch that is kept; `die` in place of batch number `at`."""
    made: list[str] = []
    append = continuing._append

    def noting(path: Path, line: Any) -> None:
        if len(made) == at:
            die()
        append(path, line)
        made.append(path.stem)

    with monkeypatch.context() as patched:
        patched.setattr(continuing, "_append", noting)
        yield made


def interrupt() -> None:
    raise KeyboardInterrupt


def pairs_of(policy: ModelOnDisk, root: Path, data: OnPolicy = DATA, *, force: bool = False) -> tuple[Artifact, ...]:
    """Return the candidates, the ranking and the pairs of a round."""
    return data.pairs(request(policy, root, force=force)).artifacts


def same(one: Artifact, other: Artifact) -> bool:
    """Return whether two artifacts hold the same bytes and say the same of them."""
    told = [{**each.manifest, "seconds": 0} for each in (one, other)]
    files = [{str(path.relative_to(each.path)) for path in each.path.rglob("*")} for each in (one, other)]
    return told[0] == told[1] and files[0] == files[1] and files[0] - {PAGE} == {MANIFEST, *one.manifest["files"]}


@pytest.mark.parametrize("at", range(6))
def test_sampling_and_ranking_killed_at_any_batch_make_the_others_alone_and_the_same_files(
    policy: ModelOnDisk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], at: int
) -> None:
    with counted(monkeypatch) as whole:
        undisturbed = pairs_of(policy, tmp_path / "whole")
    assert whole == ["sample"] * 3 + ["rank"] * 3
    with counted(monkeypatch, interrupt, at) as first, pytest.raises(KeyboardInterrupt):
        pairs_of(policy, tmp_path / "cut")
    capsys.readouterr()
    with counted(monkeypatch) as then:
        made = pairs_of(policy, tmp_path / "cut")
    assert first + then == whole
    assert all(same(*artifacts) for artifacts in zip(made, undisturbed, strict=True))
    assert [set(artifact.manifest["files"]) for artifact in undisturbed] == [{CANDIDATES}, {CANDIDATES, REPORT}, {PAIRS}]
    said = capsys.readouterr().out
    assert said.strip() == (f"resuming {whole[at]}: {at % 3 * 4} of 12 prompts done" if at % 3 else "")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_leaves_the_batches_that_were_drawn(
    policy: ModelOnDisk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: signal.Signals
) -> None:
    draw = OpenHFSampler._draw
    drawn: Count = []

    def signalled(self: OpenHFSampler, *arguments: Any) -> Any:
        if len(drawn) == 2:
            signal.raise_signal(number)
        drawn.append(1)
        return draw(self, *arguments)

    monkeypatch.setattr(OpenHFSampler, "_draw", signalled)
    with signals_as_exceptions(), pytest.raises(Stopped):
        pairs_of(policy, tmp_path)
    monkeypatch.setattr(OpenHFSampler, "_draw", draw)
    with counted(monkeypatch) as then:
        pairs_of(policy, tmp_path)
    assert then == ["sample"] + ["rank"] * 3


def test_a_draw_that_fails_before_its_first_batch_leaves_no_directory(
    policy: ModelOnDisk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(OpenHFSampler, "_draw", lambda *arguments: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        pairs_of(policy, tmp_path)
    assert not [path for path in (tmp_path / "candidates").iterdir() if path.is_dir()]


def test_another_batch_size_or_force_draws_everything_anew(
    policy: ModelOnDisk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with counted(monkeypatch, interrupt, 2), pytest.raises(KeyboardInterrupt):
        pairs_of(policy, tmp_path)
    other = replace(DATA, sampler=replace(SAMPLER, batch_size=16))
    with counted(monkeypatch) as made:
        pairs_of(policy, tmp_path, other)
    assert made.count("sample") == 2
    with counted(monkeypatch) as made:
        pairs_of(policy, tmp_path, force=True)
    assert made.count("sample") == 3


def test_the_ranker_judges_no_prompt_twice(policy: ModelOnDisk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rank = ShareOfVowels.rank
    judged: list[str] = []

    def noting(self: ShareOfVowels, candidates: Sequence[Candidates]) -> list[Verdict]:
        judged.extend(candidate.prompt.id for candidate in candidates)
        return rank(self, candidates)

    monkeypatch.setattr(ShareOfVowels, "rank", noting)
    with counted(monkeypatch, interrupt, 5), pytest.raises(KeyboardInterrupt):
        pairs_of(policy, tmp_path)
    del judged[8:]  # the batch that died before it was kept
    pairs_of(policy, tmp_path)
    assert judged == [prompt.id for prompt in PROMPTS.for_round(0, 0)]


def test_another_pairing_ranks_nothing_again(policy: ModelOnDisk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _, ranking, pairs = pairs_of(policy, tmp_path)
    monkeypatch.setattr(ShareOfVowels, "rank", lambda *arguments: pytest.fail("ranked again"))
    gaps = [(pair.score_chosen or 0) - (pair.score_rejected or 0) for pair in read_pairs(pairs)]
    other = replace(DATA, pairing=BestVsWorst(min_gap=max(gaps)))
    _, same_ranking, other_pairs = pairs_of(policy, tmp_path, other)
    assert same_ranking.path == ranking.path
    assert 0 < other_pairs.facts["pairs"] < pairs.facts["pairs"]


def context(train: Train, policy: ModelOnDisk, before: ModelOnDisk, name: str) -> Context:
    """Return what a measure of a stage is given of a policy."""
    return Context(
        policy=policy,
        before=before,
        layout=train.layout,
        precision=train.precision,
        device=train.trainer.device(),
        seed=train.seed,
        outputs=train.outputs,
        name=name,
    )


def measured(train: Train, measure: Measure, asked: Context, before: Artifact | None = None) -> Artifact:
    """Measure a policy with the figures that the measure names."""
    return evaluate(measure, measure.figures(Setting.of(train.loss, train.reference, train.data)), asked, before)


def test_an_evaluation_killed_at_any_batch_makes_the_others_alone_and_the_same_figures(
    policy: ModelOnDisk, before: ModelOnDisk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    compared = measured(stage(tmp_path), EVALUATION, context(stage(tmp_path), before, before, "before"))

    def evaluated(root: Path) -> Artifact:
        return measured(stage(root), EVALUATION, context(stage(root), policy, before, "after"), compared)

    with counted(monkeypatch) as whole:
        undisturbed = evaluated(tmp_path / "whole")
    assert whole == ["evaluate_after"] * 3 + ["judge_after"] * 3 + ["KL"] * (len(whole) - 6)
    assert len(whole) > 8
    for at in range(len(whole)):
        root = tmp_path / str(at)
        with counted(monkeypatch, interrupt, at) as first, pytest.raises(KeyboardInterrupt):
            evaluated(root)
        with counted(monkeypatch) as then:
            made = evaluated(root)
        assert first + then == whole
        assert same(made, undisturbed)
        assert set(made.manifest["files"]) == {ANSWERS, OBSERVED}


def test_an_evaluation_of_pairs_killed_at_any_batch_gives_the_same_figures(
    policy: ModelOnDisk, before: ModelOnDisk, store: TokenStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dpo_lab.scoring.passes.TOKENS_PER_BATCH", 30)

    def evaluated(root: Path) -> Artifact:  # a loss that takes the full softmax: two numbers per token
        train = stage(root, reference=FrozenReference(), loss=WPOLoss(loss=stage(root).loss))
        held_out = HeldOut(store=store, loss=train.loss, reference=train.reference, reference_model=before, name="pairs")
        return measured(train, PreferenceEvaluation(), replace(context(train, policy, before, "pairs"), held_out=held_out))

    with counted(monkeypatch) as whole:
        undisturbed = evaluated(tmp_path / "whole")
    assert len(set(whole)) == 2
    assert len(whole) > 4
    for at in range(len(whole)):
        with counted(monkeypatch, interrupt, at) as first, pytest.raises(KeyboardInterrupt):
            evaluated(tmp_path / str(at))
        with counted(monkeypatch) as then:
            made = evaluated(tmp_path / str(at))
        assert first + then == whole
        assert same(made, undisturbed)


def results(directory: Path, batches: Sequence[Sequence[int]], made: Count) -> list[Any]:
    """Return what some batches give, one number per row; note the rows that were made now."""

    def make(batch: Sequence[int]) -> list[float]:
        made.extend(batch)
        return [row / 3 for row in batch]

    with kept_part("part", 6, directory) as keep:
        return [keep(batch, partial(make, batch)) for batch in batches]


BATCHES = ([4, 0], [1], [2, 3, 5])


@pytest.mark.parametrize("lost", range(1, 200, 7))
def test_a_tail_that_was_cut_anywhere_is_removed_and_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lost: int
) -> None:
    monkeypatch.setattr("time.monotonic", lambda: 0.0)  # seconds stand in the file
    wanted = results(tmp_path, BATCHES, [])
    (file,) = (tmp_path / KEPT).iterdir()
    whole = file.read_bytes()
    file.write_bytes(whole[: max(len(whole) - lost, 0)])
    kept = whole[: max(len(whole) - lost, 0)].count(b"\n")
    made: Count = []
    assert results(tmp_path, BATCHES, made) == wanted
    assert made == [row for batch in BATCHES[kept:] for row in batch]
    assert file.read_bytes() == whole


def test_a_line_of_zeros_that_a_power_cut_left_ends_what_is_kept(tmp_path: Path) -> None:
    wanted = results(tmp_path, BATCHES, [])
    (file,) = (tmp_path / KEPT).iterdir()
    first, second, third = file.read_bytes().splitlines(keepends=True)
    file.write_bytes(first + bytes(len(second) - 1) + b"\n" + third)
    made: Count = []
    assert results(tmp_path, BATCHES, made) == wanted
    assert made == [1, 2, 3, 5]


def test_a_batch_of_other_rows_is_not_taken_for_one_that_is_kept(tmp_path: Path) -> None:
    results(tmp_path, BATCHES, [])
    made: Count = []
    assert results(tmp_path, [[0, 4], [1], [2, 3], [5]], made) == [[0.0, 4 / 3], [1 / 3], [2 / 3, 1.0], [5 / 3]]
    assert made == [0, 4, 2, 3, 5]
