"""CONTRIBUTING.md is followed to the letter: its files are written, composed, built and trained with."""

import math
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest
import torch
from hydra import compose, initialize_config_dir
from torch import nn

from dpo_lab.cli.build import build
from dpo_lab.cli.main import main
from dpo_lab.conf_files import CONF
from dpo_lab.models.load import evaluating, save_model
from dpo_lab.records import Candidates, Prompt, read_jsonl
from dpo_lab.scoring.logps import pair_logps
from dpo_lab.stages.train import Train

ROOT = Path(__file__).resolve().parents[1]
TEXT = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
BLOCK = re.compile(r"^( *)\*\*`([^`]+)`\*\*\n\n *```\w+\n(.*?)^ *```", re.S | re.M)
FILES = {name: dedent(content) for _, name, content in BLOCK.findall(TEXT)}
"""File name -> content, of every block under a bold file name."""
PACKAGES = {name.split("/")[0] for name in FILES if name.startswith("my_")}


@pytest.fixture
def beside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A directory with the files of CONTRIBUTING.md, as the current one and on Python's path."""
    for name, content in FILES.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(content, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield tmp_path
    torch.set_num_threads(threads)
    for name in [name for name in sys.modules if name.split(".")[0] in PACKAGES]:
        del sys.modules[name]


def composed(beside: Path, *overrides: str) -> Train:
    """Return the stage `train`, built with a second configuration directory."""
    with initialize_config_dir(str(CONF), version_base="1.3"):
        search = f"hydra.searchpath=[file://{beside / 'my_conf'}]"
        stage = build(compose("train", [search, *overrides], return_hydra_config=True))
    assert isinstance(stage, Train)
    return stage


def test_every_file_that_the_guide_names_in_bold_has_a_block() -> None:
    assert list(FILES) == re.findall(r"^ *\*\*`(\S+)`\*\*$", TEXT, re.M)
    assert {"my_losses/exponential.py", "my_conf/loss/mine.yaml", "conf/loss/exponential.yaml"} <= set(FILES)
    assert {"my_rankers/fluency.py", "my_data/self_play.py"} <= set(FILES)


def test_the_loss_beside_the_project_is_that_of_a_pair_worked_by_hand(beside: Path) -> None:
    loss = composed(beside, "loss=mine", "recipe.beta=0.5").loss
    # margins: -1 - -2 = 1 under the policy, -3 - -2.5 = -0.5 under the reference; e^(-0.5 * 1.5)
    assert loss(pair_logps(-1.0, -2.0), pair_logps(-3.0, -2.5)).item() == pytest.approx(math.exp(-0.75))


@pytest.mark.slow
def test_the_loss_beside_the_project_trains_from_one_at_the_first_step(beside: Path) -> None:
    data = ["data=jsonl", f"data.path={ROOT / 'docs' / 'example_pairs.jsonl'}", "trainer.max_steps=1", "trainer=cpu"]
    assert main(["train", "--config-dir", "my_conf", "loss=mine", *data]) == 0
    (metrics,) = beside.glob("outputs/train/*/metrics.jsonl")
    assert next(iter(read_jsonl(metrics)))["loss"] == pytest.approx(1.0, abs=1e-3)


def test_a_bad_value_of_the_loss_beside_the_project_is_refused(beside: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "--config-dir", "my_conf", "loss=mine", "loss.beta=-1"]) == 2
    assert "loss.beta=-1" in capsys.readouterr().err


def test_the_ranker_beside_the_project_prefers_the_shorter_answer(beside: Path) -> None:
    data = composed(beside, "ranker=mine").data
    verdicts = data.ranker.rank([Candidates(prompt=Prompt.from_text("?"), responses=("one two", "one"))])  # type: ignore[attr-defined]
    assert verdicts[0].scores == (-2.0, -1.0)


@pytest.fixture
def my_model(beside: Path, model: nn.Module, tokenizer: Any) -> nn.Module:
    """A tiny model in the directory `my_model`."""
    save_model(model, tokenizer, beside / "my_model", base_path="")
    return model


def test_the_ranker_that_loads_a_model_scores_by_its_log_probabilities(beside: Path, my_model: nn.Module, tokenizer: Any) -> None:
    ranker: Any = composed(beside, "data=on_policy", "ranker=fluent", "ranker.path=my_model").data.ranker  # type: ignore[attr-defined]
    with ranker.open(torch.device("cpu")) as opened:
        ((score, _),) = (
            each.scores for each in opened.rank([Candidates(prompt=Prompt.from_text("a b"), responses=("good", "bad"))])
        )
    ids = tokenizer("a b\ngood").input_ids
    with evaluating(my_model):
        out: Any = my_model(input_ids=torch.tensor([ids]), labels=torch.tensor([ids]))
    assert score == pytest.approx(-out.loss.item(), rel=1e-5)  # the library's loss is the mean over the tokens after the first
    assert ranker.bytes_needed("cpu") == 4 * sum(weight.numel() for weight in my_model.parameters())


@pytest.mark.slow
@pytest.mark.usefixtures("my_model")
def test_the_ranker_that_loads_a_model_runs_as_told(beside: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("prompts.jsonl").write_text("".join(f'{{"prompt": "a {word}?"}}\n' for word in "abcdefgh"))
    small = ["sampler.num_samples=3", "sampler.max_new_tokens=4", "trainer.max_steps=1", "trainer=cpu", "prompts.num_held_out=2"]
    others = ["model=local", "model.path=my_model", "data=on_policy", "prompts=jsonl", "prompts.path=prompts.jsonl", *small]
    assert main(["train", "--config-dir", "my_conf", "ranker=fluent", "ranker.path=my_model", *others]) == 0
    (ranked,) = beside.glob("outputs/ranking/*/candidates.jsonl")
    scores = [score for record in read_jsonl(ranked) for score in record["scores"]]
    assert len(scores) == 18
    assert max(scores) < 0
    assert "fluency" in capsys.readouterr().out


@pytest.mark.slow
@pytest.mark.usefixtures("my_model")
def test_self_play_lets_the_policy_draw_the_rejected_answers_and_holds_out_the_datas_own(
    beside: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pairs = f"data.data.path={ROOT / 'docs' / 'example_pairs.jsonl'}"
    small = ["sampler.max_new_tokens=4", "trainer.max_steps=1", "trainer=cpu", "model=local", "model.path=my_model"]
    assert main(["train", "--config-dir", "my_conf", "data=self_play", pairs, *small]) == 0
    assert "32 pairs of self-play, 8 held out" in capsys.readouterr().out
    (answers,) = beside.glob("outputs/candidates/*/candidates.jsonl")
    assert len(list(read_jsonl(answers))) == 32


def test_the_model_beside_the_project_takes_the_chosen_adapter(beside: Path) -> None:
    model = composed(beside, "model=mine", "data=jsonl", "data.path=pairs.jsonl", "adapter=lora", "adapter.rank=4").model
    assert (model.label, model.adapter.rank) == ("mine", 4)  # type: ignore[attr-defined]


def test_the_loss_in_the_project_states_the_formula_of_its_class(beside: Path) -> None:
    stated = dict(re.findall(r"^# (formula|at policy = reference): (.+)$", FILES["conf/loss/exponential.yaml"], re.M))
    loss = composed(beside, "loss=mine", "recipe.beta=0.5").loss
    names = {"exp": math.exp, "beta": 0.5, "h": 1.5}  # margins 1 and -0.5
    assert loss(pair_logps(-1.0, -2.0), pair_logps(-3.0, -2.5)).item() == pytest.approx(eval(stated["formula"], names))
    assert eval(stated["formula"], {**names, "h": 0.0}) == eval(stated["at policy = reference"])
