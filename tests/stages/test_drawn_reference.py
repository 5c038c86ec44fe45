"""On-policy, the reference has said what it thinks of the answers while it drew them: no pass over them is made."""

import json
from pathlib import Path
from typing import Any

import pytest

from dpo_lab.artifacts import MANIFEST
from dpo_lab.data.prompts import FilmPrompts
from dpo_lab.evaluation.generation import GenerationEvaluation
from dpo_lab.models.quant import FourBit
from dpo_lab.reference import audit, cached
from dpo_lab.reference.cached import CachedReference
from dpo_lab.reference.parts import Parts
from dpo_lab.sampling.hf import HFSampler
from dpo_lab.scoring.score import score
from dpo_lab.stages.train import Train
from dpo_lab.tokens.store import TokenStore
from dpo_lab.training.iteration import Iteration
from dpo_lab.training.optim import AdamW
from tests.small_stage import ShareOfVowels, stage, with_lora

AUDITED = 3
FIGURES = ("kl/round_1", "kl/round_2", "gold/after")
EVALUATION = GenerationEvaluation(
    prompts=FilmPrompts(num_prompts=12), sampler=HFSampler(max_new_tokens=20), judge=ShareOfVowels(), num_samples=1, max_prompts=2
)


@pytest.fixture
def forwards(monkeypatch: pytest.MonkeyPatch) -> dict[str, int]:
    """Count the responses that passes and audits score under the reference."""
    counts = {"pass": 0, "audit": 0}

    def counting(kind: str) -> Any:
        def counted(model: Any, batch: Any, **options: bool) -> Any:
            counts[kind] += len(batch.counts)
            return score(model, batch, **options)

        return counted

    monkeypatch.setattr(cached, "score", counting("pass"))
    monkeypatch.setattr(audit, "score", counting("audit"))
    return counts


@pytest.fixture(scope="module")
def outputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where all runs share their base model."""
    return tmp_path_factory.mktemp("outputs")


def recorded(directory: Path) -> list[dict[str, Any]]:
    """Return what was recorded of the artifacts in a directory, round by round."""
    return [json.loads(path.read_text())["facts"] for path in sorted(directory.glob(f"*/{MANIFEST}"))]


def run_of(outputs: Path, kept: Path, rows: int = AUDITED, **fields: Any) -> Train:
    """Return a run whose reference passes stand in a directory."""
    return stage(outputs, evaluation=EVALUATION, reference=CachedReference(audit_rows=rows, root=kept), **fields)


def test_in_every_round_the_audit_is_all_that_the_reference_scores_and_the_figures_are_those_of_a_pass(
    outputs: Path, tmp_path: Path, forwards: dict[str, int], capsys: pytest.CaptureFixture[str]
) -> None:
    drawn = run_of(outputs, tmp_path / "drawn").run()
    assert forwards == {"pass": 0, "audit": 2 * AUDITED}
    taken = recorded(tmp_path / "drawn" / "reference")
    assert [each["drawn"] == each["responses"] > 20 for each in taken] == [True, True]
    assert "drawn with the answers" not in capsys.readouterr().out

    passed = run_of(outputs, tmp_path / "passed", rows=0).run()
    assert [each["forwards"] for each in recorded(tmp_path / "passed" / "reference")] == [each["responses"] for each in taken]
    assert {name: drawn[name] for name in FIGURES} == pytest.approx({name: passed[name] for name in FIGURES}, rel=1e-3)
    said = capsys.readouterr().out
    assert said.count("not used (reference.audit_rows=0 would not check them): the reference scores all answers") == 2


def test_an_adapter_of_the_round_before_on_a_4bit_base_has_scored_its_own_answers_too(
    outputs: Path, tmp_path: Path, forwards: dict[str, int]
) -> None:
    run_of(outputs, tmp_path, model=with_lora(quant=FourBit())).run()
    assert forwards == {"pass": 0, "audit": 2 * AUDITED}
    assert len(recorded(tmp_path / "reference")) == 2


def test_a_gap_at_the_first_step_makes_the_pass_and_says_so(
    outputs: Path, tmp_path: Path, forwards: dict[str, int], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    take_drawn = Parts.take_drawn

    def wrong(self: Parts, store: TokenStore) -> None:
        take_drawn(self, store)
        self.per_token -= 0.01

    monkeypatch.setattr(Parts, "take_drawn", wrong)
    run_of(outputs, tmp_path, iteration=Iteration(rounds=1), optim=AdamW(lr=2e-3)).run()
    assert sorted(each["forwards"] for each in recorded(tmp_path / "reference")) == [0, forwards["pass"]]
    assert forwards["pass"] > 20
    assert "not used (a response of the first step differs by" in capsys.readouterr().out
