"""What is proposed after a run fits this run."""

from pathlib import Path

import pytest

from dpo_lab.call import Call
from dpo_lab.loggers.base import RunIdentity
from dpo_lab.pipeline.run_record import about_run
from dpo_lab.report.next_steps import next_commands


def test_the_words_that_were_typed_are_kept() -> None:
    typed = "python scripts/train.py quant=4bit data=jsonl 'data.path=a b.jsonl' seed=3 loss=ipo"
    chat, export, seed, losses = next_commands("out/train/a b", typed, 3, one_of_several=False)
    assert chat == "python scripts/chat.py 'models=[out/train/a b]'"
    assert export == "python scripts/export.py 'policy=out/train/a b'"
    assert seed == "python scripts/train.py quant=4bit data=jsonl 'data.path=a b.jsonl' loss=ipo seed=4"
    assert losses == "python scripts/train.py -m quant=4bit data=jsonl 'data.path=a b.jsonl' seed=3 loss=dpo,ipo"


def test_the_installed_program_proposes_itself() -> None:
    chat, export, seed, losses = next_commands("out/train/a", "dpo-lab train model=mistral7b", 0, one_of_several=False)
    assert chat == "dpo-lab chat 'models=[out/train/a]'"
    assert export == "dpo-lab export policy=out/train/a"
    assert seed == "dpo-lab train model=mistral7b seed=1"
    assert losses == "dpo-lab train -m model=mistral7b loss=dpo,ipo"


def test_what_other_losses_do_not_take_is_left_out_of_their_sweep() -> None:
    typed = "python train.py loss=simpo loss.gamma=1 reference=none"
    _, _, seed, losses = next_commands("out/train/a", typed, 0, one_of_several=False)
    assert seed == f"{typed} seed=1"
    assert losses == "python train.py -m loss=dpo,ipo"


def test_no_other_run_is_told_to_start_over() -> None:
    commands = next_commands("out/train/a", "python train.py force=true seed=3", 3, one_of_several=False)
    assert commands[2:] == ("python train.py seed=4", "python train.py -m seed=3 loss=dpo,ipo")


def test_a_checkout_elsewhere_is_named_in_every_command() -> None:
    for program, scripts in (("/lab/train.py", "/lab/scripts"), ("../scripts/train.py", "../scripts")):
        commands = next_commands("out/train/a", f"python {program} loss=ipo", 0, one_of_several=False)
        assert [command.split()[1] for command in commands] == [f"{scripts}/chat.py", f"{scripts}/export.py", program, program]


def test_a_run_of_a_sweep_or_of_python_code_proposes_no_other_run() -> None:
    alone = ("python scripts/chat.py 'models=[out/train/a]'", "python scripts/export.py policy=out/train/a")
    assert next_commands("out/train/a", "python train.py loss=ipo", 0, one_of_several=True) == alone
    assert next_commands("out/train/a", None, 0, one_of_several=False) == alone


@pytest.mark.parametrize("program", ["python /lab/train.py", "dpo-lab train"])
def test_a_run_is_repeated_by_the_program_that_made_it(program: str) -> None:
    call = Call(command=f"{program} loss=ipo", cwd="/", overrides=("loss=ipo",), differences=(), config={})
    identity = RunIdentity(name="a", id="b" * 64, directory=Path("out/train/a"), config={})
    assert about_run(identity, call, "fp32")["repeat"] == f"{program} rerun=out/train/a"
