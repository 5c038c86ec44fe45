"""A configuration builds components only: whatever else a `_target_` names is refused before it is called."""

import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

from dpo_lab.cli.main import main
from dpo_lab.cli.targets import NodeError, TargetError, class_of, foreign_code, made_of, without_places
from dpo_lab.components import Component, component
from dpo_lab.losses.dpo import DPOLoss
from dpo_lab.stages.train import Train

INTRUDER = """
from pathlib import Path
from dpo_lab.components import component
from dpo_lab.losses.dpo import DPOLoss

def fire(*arguments, **fields):
    Path("fired").touch()

class Caller:
    def __init__(self, **fields):
        fire()

    def __call__(self, **fields):
        fire()

caller = Caller.__new__(Caller)

@component
class Real(DPOLoss):
    @staticmethod
    def make(**fields):
        fire()

    class Inner:
        def __init__(self, **fields):
            fire()
"""


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    (tmp_path / "intruder.py").write_text(INTRUDER)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HYDRA_FULL_ERROR", "1")
    monkeypatch.setattr(Train, "run", lambda stage: Path("ran").touch())
    yield
    sys.modules.pop("intruder", None)


# ---------------------------------------------------------------- from the command line
PLACES = {  # what stands on the command line, and the key in the message
    "_target_=intruder.fire": "_target_",
    "loss._target_=intruder.fire": "loss._target_",
    "loss._target_=intruder.Caller": "loss._target_",
    "loss._target_=intruder.caller": "loss._target_",
    "loss._target_=intruder.Real.make": "loss._target_",
    "loss._target_=intruder.Real.Inner": "loss._target_",
    "+loss.more._target_=intruder.fire": "loss.more._target_",
    "loss.beta={_target_:intruder.fire}": "loss.beta._target_",
    "loss.beta={deep:[1,{_target_:intruder.fire}]}": "loss.beta.deep.1._target_",
    "+loss._args_=[{_target_:intruder.fire}]": "loss._args_.0._target_",
    "+callbacks.mine._target_=intruder.Caller": "callbacks.mine._target_",
    "tags=[{_target_:intruder.fire}]": "tags.0._target_",
    "notes={_target_:intruder.fire,_partial_:true}": "notes._target_",
    "notes={_target_:intruder.fire,_recursive_:false}": "notes._target_",
    "notes='${oc.create:{_target_:intruder.fire}}'": "notes._target_",
    "notes={_target_:hydra.utils.call,_args_:[{_target_:intruder.fire}]}": "notes._target_",
    "notes={_target_:hydra.utils.instantiate,config:{}}": "notes._target_",
    "notes={_target_:builtins.eval,_args_:['1']}": "notes._target_",
    "notes={_target_:functools.partial,func:1}": "notes._target_",
    "notes={_target_:dpo_lab.hub.os.system,command:'touch fired'}": "notes._target_",
}


@pytest.mark.parametrize("override", PLACES)
def test_only_components_are_built_wherever_the_node_stands(override: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", override]) == 2
    shown = capsys.readouterr().err
    assert shown.startswith(f"error: {PLACES[override]}=")
    assert shown.count("\n") == 1
    assert not Path("fired").exists()
    assert not Path("ran").exists()


@pytest.mark.parametrize("key", ["_args_", "_partial_", "_recursive_", "_convert_"])
def test_hydra_s_words_for_calls_are_no_fields_of_a_component(key: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", f"+loss.{key}=1"]) == 2
    assert capsys.readouterr().err.startswith(f"error: loss.{key} is not known. ")


def test_a_component_of_ones_own_is_built() -> None:
    assert main(["train", "loss._target_=intruder.Real"]) == 0
    assert Path("ran").exists()


def test_a_component_that_is_no_stage_is_not_run(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "_target_=dpo_lab.losses.dpo.DPOLoss"]) == 2
    assert capsys.readouterr().err == (
        "error: _target_=dpo_lab.losses.dpo.DPOLoss: this is not a stage. It has to be a component with a method `run`.\n"
    )
    assert main(["train", "~_target_"]) == 2
    assert capsys.readouterr().err.startswith("error: _target_=null: this is not a dotted path of a class")


# ---------------------------------------------------------------- names
NAMES = {
    "dpo_lab.losses.dpo.DPOLos": "dpo_lab.losses.dpo has no DPOLos. Did you mean 'DPOLoss'?",
    "dpo_lab.losses.dop.DPOLoss": "dpo_lab.losses has no dop. Did you mean 'dpop'?",
    "dpo_lab.hub.os.system": "dpo_lab.hub has no os.",
    "dpo_lab.losses.dpo.DPOLoss.content.x": "dpo_lab.losses.dpo.DPOLoss.content is a function, which holds no classes.",
    "my_losses.Mine": "Python finds no module my_losses. Put PYTHONPATH=DIR in front of the command, where DIR holds my_losses, "
    "or install it.",
    "broken.Mine": "the module broken cannot be imported: No module named 'nowhere'.",
    "raising.Mine": "the module raising cannot be imported: ZeroDivisionError: division by zero.",
}


@pytest.mark.parametrize("target", NAMES)
def test_a_name_that_leads_nowhere_says_where_it_ends(target: str) -> None:
    Path("broken.py").write_text("import nowhere")
    Path("raising.py").write_text("1 / 0")
    with pytest.raises(TargetError) as refused:
        class_of(target)
    assert str(refused.value) == NAMES[target]


@pytest.mark.parametrize("target", ["", "dpo_lab", "a b.c", "os.system()", ".os", 4, None, ["os.system"]])
def test_what_is_no_dotted_path_is_refused(target: Any) -> None:
    with pytest.raises(TargetError, match="this is not a dotted path of a class"):
        class_of(target)


# ---------------------------------------------------------------- torch's optimizers
@component
class WithOptimizer(Component):
    """A part of a user's own that makes its optimizer itself."""

    optimizer: Callable[..., torch.optim.Optimizer]


def test_an_optimizer_of_torch_stays_a_partial() -> None:
    node = {"_target_": "torch.optim.SGD", "_partial_": True, "lr": 0.5}
    part = made_of({"_target_": f"{__name__}.WithOptimizer", "optimizer": node})
    assert isinstance(part.optimizer, partial)
    assert part.optimizer([torch.nn.Parameter(torch.zeros(1))]).defaults["lr"] == 0.5
    assert part.content()["optimizer"] == "functools.partial(<class 'torch.optim.sgd.SGD'>, lr=0.5)"


@pytest.mark.parametrize(
    ("node", "message"),
    [
        ({"_target_": "torch.optim.SGD", "lr": 0.5}, "SGD is made when its parameters exist. Add _partial_: true"),
        (
            {"_target_": "torch.optim.SGD", "_partial_": "yes", "lr": 0.5},
            "SGD is made when its parameters exist. Add _partial_: true",
        ),
        ({"_target_": "torch.optim.SGD", "_partial_": True, "lrr": 0.5}, "got an unexpected keyword argument 'lrr'"),
        ({"_target_": "torch.optim.swa_utils.AveragedModel", "_partial_": True}, "this is a class, and a configuration builds"),
        ({"_target_": "dpo_lab.losses.dpo.DPOLoss", "_partial_": True}, "_partial_"),
    ],
)
def test_nothing_else_becomes_a_partial(node: dict[str, Any], message: str) -> None:
    with pytest.raises(NodeError) as refused:
        made_of([node])
    assert refused.value.key == "0"
    assert message in str(refused.value.cause)


# ---------------------------------------------------------------- recorded runs
@component
class Scorer(DPOLoss):
    """Stands for a part that imports a function by its name."""

    names_code = ("path",)

    path: str | None = None


def test_foreign_code_is_found_without_importing_it_wherever_it_is_named() -> None:
    node = {
        "_target_": "dpo_lab.stages.train.Train",
        "loss": {"_target_": "dpo_lab.losses.dpo.DPOLoss", "beta": [{"_target_": "nowhere.losses.Mine"}]},
        "optim": {"_target_": "torch.optim.SGD", "_partial_": True},
        "ranker": {"_target_": f"{__name__}.Scorer", "path": "nowhere.scores:score"},
        "judge": {"_target_": f"{__name__}.Scorer", "path": "dpo_lab.hub.os:system"},
        "sampler": {"_target_": "dpo_lab_evil.Sampler"},
    }
    of_tests = [("ranker._target_", f"{__name__}.Scorer"), ("judge._target_", f"{__name__}.Scorer")]
    others = [("loss.beta.0._target_", "nowhere.losses.Mine"), ("sampler._target_", "dpo_lab_evil.Sampler")]
    assert sorted(foreign_code(node, [])) == sorted([*of_tests, *others])
    named = [("ranker.path", "nowhere.scores.score"), ("judge.path", "dpo_lab.hub.os.system")]
    assert sorted(foreign_code(node, [__name__])) == sorted([*of_tests, *others, *named])


def test_a_part_in_a_list_writes_into_no_directory_of_its_own_choice_either() -> None:
    cached = {"_target_": "dpo_lab.reference.cached.CachedReference", "root": "/elsewhere", "audit_rows": 2}
    assert without_places({"parts": [cached], "root": "stays"}) == {"parts": [{**cached, "root": None}], "root": "stays"}
