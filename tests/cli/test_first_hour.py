"""Mistakes of a first hour: what is proposed was composed, built and checked, and is accepted when it is typed."""

import json
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from dpo_lab.cli.main import main
from tests.e2e.until_work import end_before_work

OWN = "prompts=jsonl prompts.path=mine.jsonl"
ANSWERS = {  # command: what its answer ends with, and what is typed in place of the mistake, which stands last
    "train prompts=mine.jsonl": f"Write {OWN} model=smollm2_135m data=on_policy",
    "train ranker=a/b": "Write ranker=reward_model ranker.path=a/b",
    "train judge=length": "It is an option of ranker. Write judge=same ranker=length",
    "train ranker=best_vs_second": "It is an option of pairing. Write pairing=best_vs_second",
    "train iteration=2": "Write iteration.rounds=2",
    "train paths=elsewhere": "Write paths.outputs=elsewhere",
    "train adapter=qlora": "Write quant=4bit adapter=lora",
    "train quant=nf4": "Write quant=4bit adapter=lora",
    "train lerning_rate=1e-5": "Write optim.lr=1e-5",
    "train model.name=gpt2": "Write model=gpt2",
    "train 'optim.betas=(0.9,0.95)'": "Write optim.betas=[0.9,0.95]",
    "train 'optim.betas=[0.9,0.95'": "Write optim.betas=[0.9,0.95]",
    "train optim.betas=0.9,0.95": "One list is written optim.betas=[0.9,0.95]",
    "train 'tags=first second'": "tags=[first,second]",
    "train 'tags=[1,2]'": "tags=\"['1','2']\"",
    "train 'logger=[csv,tensorboard'": "Write logger=[csv,tensorboard]",
    "train optim.lr=1e-4,": "Write optim.lr=1e-4",
    "train optim.lr=0,0001": "A decimal point is meant: optim.lr=0.0001",
    "train optim.lr=1e\u22124": "Write optim.lr=1e-4",
    'train "notes=it\'s"': "Quote it: \"notes='it\\'s'\"",
    "train 'loss=ipo seed=1'": "Write loss=ipo seed=1",
    "train loss=dpo.beta=0.2": "Write loss=dpo loss.beta=0.2",
    "train loss= ipo": "no blank stands beside an equals sign. Write loss=ipo",
    "train loss =ipo": "no blank stands beside an equals sign. Write loss=ipo",
    "train loss:ipo": "Write loss=ipo",
    "train seed:1": "Write seed=1",
    "train loss.type=ipo": "Write loss=ipo",
    "train data.file=mine.jsonl": "data=jsonl data.path=mine.jsonl",
    "train steps=10": "Write trainer.max_steps=10",
    "train -m seed=[0,1]": "To run each of them: -m seed=0,1",
    "train --force": "Write force=true",
    "train --tags=a": "Write tags=[a]",
    "train --seed=3": "Write seed=3",
    "train model=my_model": "Write model=local model.path=my_model",
    "train mine.jsonl": "Write data=jsonl data.path=mine.jsonl",
    "rank ranker=length answers.jsonl": "Write candidates.path=answers.jsonl",
    "rank ranker=length data=answers.jsonl": "Write candidates.path=answers.jsonl",
    "rank ranker=length candidates=answers.jsonl": "Write candidates.path=answers.jsonl",
    "rank ranker=length data=jsonl data.path=answers.jsonl": "Write candidates.path=answers.jsonl in their place.",
    "train prompts.num_prompts=9000": "Use prompts.num_prompts=1942",
    "train reference=none evaluation=preference": "rite for all of it: evaluation=generation reference=cached",
    "train prompts=ultrafeedback": "rite for all of it: prompts=films",
}
LEFT = {  # how many words stay before the mistake
    "rank ranker=length data=answers.jsonl": 2,
    "train -m seed=[0,1]": 2,
    "rank ranker=length answers.jsonl": 2,
    "rank ranker=length candidates=answers.jsonl": 2,
    "rank ranker=length data=jsonl data.path=answers.jsonl": 2,
}


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    end_before_work(tmp_path, monkeypatch)
    monkeypatch.setattr("dpo_lab.pipeline.ranking.ranked", lambda *_, **__: (_ for _ in ()).throw(KeyError("ranked")))
    Path("mine.jsonl").write_text(json.dumps({"prompt": "Why?"}))
    Path("my_model").mkdir()
    Path("answers.jsonl").write_text(json.dumps({"prompt": "Why?", "answers": ["Because.", "No."]}))


def said(words: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    """Return the one line that answers a mistake."""
    assert main(words) == 2
    line = capsys.readouterr().err
    assert line.count("\n") == 1
    assert "Traceback" not in line
    return line.rstrip("\n")


@pytest.mark.parametrize("command", ANSWERS)
def test_what_is_proposed_is_accepted(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    words = shlex.split(command)
    line = said(words, capsys)
    assert ANSWERS[command] in line
    proposal = re.search(r"(?:[+~]?[a-z_][\w.@]*=(?:\"[^\"]*\"|\[\S*\]|[^\s\"]+) ?)+|\"[a-z_.]+=.*\"", ANSWERS[command])
    assert proposal
    code = main([*words[: LEFT.get(command, 1)], *shlex.split(proposal[0])])
    assert "accepted" in capsys.readouterr().err or (code == 1 and words[0] == "rank")


@pytest.mark.parametrize(
    ("command", "answer"),
    {
        "generate": "'generate' is not a stage. Write dpo-lab sample",
        "loss=ipo": "'loss=ipo' is a setting, and the stage comes first. Write dpo-lab train loss=ipo",
        "-m train seed=0,1": "'-m' stands before the stage, which comes first. Write dpo-lab train -m seed=0,1",
        "train train": "'train' sets nothing. The stage is named already: leave it out.",
        "train help": "'help' sets nothing. Write --help",
        "train seed": "'seed' sets nothing. Write group=option or key=value, for instance seed=...",
        "publish source": "for instance source=...",
        "evaluate first/run second/run": "Write runs=[first/run,second/run]",
        "evaluate runs=[first]": "a comparison takes two runs or more: runs=[first,DIR]",
        "publish source=x push=true repo=https://huggingface.co/me/it": "Write repo=me/it",
        "export policy=x export.max_shard_size=5": "a size is a whole number with KB, MB or GB, such as 5GB",
        "train lr_scheduler=polynomial": "Here it is optim.schedule; optim.schedule=polynomial: Input should be 'cosine', ",
        "train model=llama": "Did you mean 'llama2_7b' or 'llama3_8b'?",
        "train paths.outputs=${oc.env:NOWHERE}": "the environment has no variable NOWHERE. Set it, or write ",
        "train ranker=ensemble 'ranker.members=[length]'": "One more: '+ranker@ranker.members.NAME=OPTION'; one less: ",
        "train ranker=ensemble '~ranker.members.gold'": "Valid in ranker.members: pairrm, length.",
        "train -m 'seed=interval(0,3)'": "List the values: seed=1,2,3 or seed=range(1,4)",
        "train -m 'loss=dpo;ipo'": "To run each of them: -m loss=dpo,ipo",
        "train -m 'seed=range(0,3'": "To run each of them: -m 'seed=range(0,3)'",
        "train callbacks=none": "this option does not exist. Valid: default, early_stopping, overfit, profile, samples.",
        "train optim.name=sgd": "optim takes the name of an option. Write optim=OPTION, with one of adamw, ",
        "train -m seed=0..2": "To run each of them: -m 'seed=range(0,3)'",
        "train -m loss=all": "To run each of them: -m 'loss=glob(*)'",
        "train notes=hello big world": "A text with blanks is quoted twice. Write \"notes='hello big world'\"",
        "train tags=a b": "A list is written in brackets. Write tags=[a,b]",
        "chat my_model": "'my_model' sets nothing. Write models=[my_model]",
        "evaluate my_model": "'my_model' sets nothing. Write models=[my_model]",
        "alpaca_eval answers.jsonl": "'answers.jsonl' sets nothing. Write answers=answers.jsonl",
        "doctor mine.jsonl": "'mine.jsonl' sets nothing. Write data=jsonl data.path=mine.jsonl",
        "pretrain mine.jsonl": "'mine.jsonl' sets nothing. Write data=jsonl data.path=mine.jsonl",
        "sample mine.jsonl": "'mine.jsonl' sets nothing. Write prompts=jsonl prompts.path=mine.jsonl",
        "publish my_model": "Write source=my_model",
        "export my_model": "Write policy=my_model",
        "export runs=[my_model]": "Write policy=my_model",
        "publish policy=my_model": "Write source=my_model",
        "dashboard runs=[RUN]": "this directory does not exist, and dashboard reads a directory from source",
        "chat runs=[my_model]": "Write models=[my_model]",
        "evaluate policies=[a,b]": "Write models=[a,b]",
        "train --debug": "settings have no dashes. Write debug=OPTION, with one of fast, overfit, profile",
        "train --dry-run": "Leave it out: --cfg job shows what would run, and dpo-lab doctor what it needs",
        "export policy=x seed=1": "seed is a key of chat, doctor, evaluate, pretrain, sample, train, not of export. Leave",
        "doctor memory=24": "the memory of a GPU is a whole number with MB or GB: memory=24GB",
        "doctor memory=lots": "the memory of a GPU is a whole number with MB or GB: memory=16GB",
        "doctor force=true": ", not of doctor. Leave it out.",
        "rank loss=ipo": "Leave it out, and add candidates.path=...",
        "train ranker=function ranker.path=./mine.py:score": "for instance ranker.path=mine:score",
    }.items(),
)
def test_a_mistake_is_answered_with_what_was_meant(command: str, answer: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert answer in said(shlex.split(command), capsys)


def test_what_two_parts_say_alike_is_said_once(capsys: pytest.CaptureFixture[str]) -> None:
    line = said(["train", "ranker=function", "ranker.path=nothing"], capsys)
    assert line.count("is not MODULE:FUNCTION") == 1


def test_a_batch_size_is_not_proposed_where_it_has_no_effect(capsys: pytest.CaptureFixture[str]) -> None:
    line = said(["sample", "model=gpt2", "prompts=films", "batch_size=4"], capsys)
    assert "Did you mean 'sampler.batch_size'?" in line


def test_files_of_answers_are_looked_for_before_the_first_job(capsys: pytest.CaptureFixture[str]) -> None:
    line = said(["rank", "-m", "ranker=length,random", "candidates.path=none.jsonl"], capsys)
    assert line.endswith("Nor can job 2. No job was started.")


@pytest.mark.parametrize(
    ("command", "of"),
    [("sample epochs=1", " of sample, and recipe.epochs or trainer.epochs"), ("evaluate epochs=1", ", and `recipe.epochs=1`")],
)
def test_a_setting_of_training_is_not_proposed_where_nothing_is_trained(
    command: str, of: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(shlex.split(command)) == 2
    idle = "has no effect: nothing is trained. Leave it out."
    assert capsys.readouterr().err == f"error: epochs is neither a group nor a key{of} {idle}\n"


def test_a_key_of_another_stage_is_answered_without_what_a_training_needs() -> None:
    """torch alone takes seconds to import."""
    commands = (
        "sample epochs=1",
        "sample batch_size=3",
        "sample loss=ipo",
        "chat beta=1",
        "export loss=ipo",
        "rank learning_rate=1",
        "publish n=1",
    )
    imports, codes = "import sys; from dpo_lab.cli.main import main", f"[main(each.split()) for each in {commands}]"
    code = f"{imports}; print({codes}, 'torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr.count("\n")) == (f"{[2] * len(commands)} False\n", len(commands))


def test_a_path_that_is_proposed_and_does_not_exist_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    for words in (
        ["chat", "policy=/nope"],
        ["chat", "models=/nope"],
        ["evaluate", "run=/nope"],
        ["train", "data=/nope"],
        ["train", "model_path=/nope"],
    ):
        assert said(words, capsys).endswith("(/nope does not exist here)")
