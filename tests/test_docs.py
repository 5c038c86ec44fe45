"""The pages in docs/ agree with the code that they describe."""

import inspect
import re
import shlex
from collections.abc import Iterator
from dataclasses import fields
from importlib import import_module
from itertools import product
from pathlib import Path
from typing import Any

import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra.utils import get_class, instantiate
from omegaconf import OmegaConf
from torch import Tensor

from dpo_lab.cli.arguments import key_of
from dpo_lab.cli.build import build
from dpo_lab.cli.conf import options
from dpo_lab.components import Component
from dpo_lab.conf_files import CONF
from dpo_lab.figures import table
from dpo_lab.losses.base import PreferenceLoss
from dpo_lab.scoring.logps import PairLogps, ResponseLogps
from dpo_lab.tokens.labels import PairLabels

ROOT = Path(__file__).resolve().parents[1]
PAGES = sorted(path.name for path in (ROOT / "docs").glob("*.md"))
METHOD = (ROOT / "docs" / "method.md").read_text(encoding="utf-8")


def rows_of(header: str) -> list[list[str]]:
    """Return the cells of the rows of the table of the method whose header begins so."""
    lines = METHOD[METHOD.index(header) :].split("\n\n")[0].splitlines()[2:]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


LOSSES = rows_of("| option | formula |")
every_row = pytest.mark.parametrize("row", LOSSES, ids=lambda row: row[0].strip("`"))
COMING = [
    command for *_, cell in rows_of("| from | their setting |") for command in re.findall(r"`python train\.py ([^`]+)`", cell)
]

# log-probabilities of the tokens of three pairs; log-ratios of both signs, and margins that sort otherwise than the reference's
CHOSEN = [[-0.5, -1.5, -0.4], [-1.0, -0.2], [-0.7]]
REJECTED = [[-1.0, -0.3], [-0.9, -0.8, -1.6, -0.1], [-2.0, -0.6]]
CHOSEN_REFERENCE = [[-0.9, -1.1, -0.6], [-0.5, -0.4], [-1.2]]
REJECTED_REFERENCE = [[-2.2, -1.4], [-1.3, -0.2, -1.0, -0.5], [-1.1, -0.9]]
SQUARES = -1.0


def named(text: str) -> list[str]:
    """Return the dotted names of the package's objects in back quotes."""
    return list(dict.fromkeys(re.findall(r"`(dpo_lab(?:\.\w+)+)`", text)))


def resolved(name: str) -> Any:
    """Return the object of a dotted name."""
    parts = name.split(".")
    for length in range(len(parts), 0, -1):
        try:
            found: Any = import_module(".".join(parts[:length]))
        except ModuleNotFoundError:
            continue
        for attribute in parts[length:]:
            found = getattr(found, attribute)
        return found
    raise ModuleNotFoundError(name)


@pytest.mark.parametrize("name", named(METHOD))
def test_the_method_names_objects_that_exist(name: str) -> None:
    assert resolved(name) is not None


def test_the_methods_table_of_metrics_is_that_of_the_code() -> None:
    assert table() in METHOD


@pytest.mark.parametrize("page", PAGES)
def test_links_between_pages_lead_somewhere(page: str) -> None:
    links = re.findall(r"\]\(([^)#]+)\)", (ROOT / "docs" / page).read_text(encoding="utf-8"))
    assert [link for link in links if not link.startswith("http") and not (ROOT / "docs" / link).exists()] == []


def test_the_kinds_of_artifacts_are_those_that_the_code_plans() -> None:
    sources = [path.read_text(encoding="utf-8") for path in (ROOT / "dpo_lab").rglob("*.py")]
    planned = {kind for source in sources for kind in re.findall(r'Plan\([\w.]+, "(\w+)"', source)}
    pipeline = (ROOT / "docs" / "pipeline.md").read_text(encoding="utf-8")
    table = pipeline[pipeline.index("| kind |") :].split("\n\n")[0]
    assert set(re.findall(r"^\| `(\w+)` \|", table, re.M)) == planned


def from_conf(name: str) -> PreferenceLoss:
    """Return the loss of a yaml with its default values and recipe.beta=0.1."""
    config: Any = OmegaConf.load(CONF / "loss" / f"{name}.yaml")
    root = OmegaConf.create({"recipe": {"beta": 0.1}, "loss": config.get("loss") if "defaults" in config else config})
    loss: PreferenceLoss = instantiate(root.loss, _convert_="all")
    return loss


def numbers_of(part: Any) -> dict[str, float]:
    """Return the numbers of a component and of those that it holds, by the names of their fields."""
    found: dict[str, float] = {}
    for field in fields(part):
        value = getattr(part, field.name)
        for inner in value.values() if isinstance(value, dict) else [value]:
            found |= numbers_of(inner) if isinstance(inner, Component) else {}
        found |= {field.name: value} if isinstance(value, int | float) else {}
    return found


def pairs_of(rows: list[list[float]], labels: PairLabels | None = None) -> PairLogps:
    """Return pairs of responses, chosen ones first."""
    per_token = torch.tensor([value for row in rows for value in row], dtype=torch.float64)
    counts = torch.tensor([len(row) for row in rows])
    squares = torch.full_like(per_token, SQUARES)
    return PairLogps(ResponseLogps(per_token, counts, squares), torch.arange(len(rows)).view(2, -1).T, labels)


def sums(rows: list[list[float]], limits: list[int] | None = None) -> Tensor:
    """Return the sums of rows, of at most so many values of each."""
    ends = limits or [len(row) for row in rows]
    return torch.tensor([sum(row[:end]) for row, end in zip(rows, ends, strict=True)], dtype=torch.float64)


def labels() -> PairLabels:
    """Return the labels of the three pairs."""
    return PairLabels(torch.tensor([0.8, 0.6, 0.9]), torch.tensor([2.0, 1.0, 0.9]), torch.tensor([0.5, -1.0, 0.3]))


FUNCTIONS: dict[str, Any] = {
    "log": lambda x: torch.as_tensor(x, dtype=torch.float64).log(),
    "exp": torch.exp,
    "sigmoid": torch.sigmoid,
    "max": lambda least, x: x.clamp(min=least),
    "sort": lambda x: x.sort().values,
}


def evaluated(formula: str, loss: PreferenceLoss, chosen: list[list[float]], rejected: list[list[float]]) -> Tensor:
    """Return the value of a formula of the method's table for each of the three pairs, given the reference's tokens."""
    shorter = [min(map(len, pair)) for pair in zip(CHOSEN, REJECTED, strict=True)]
    n_w, n_l = (torch.tensor([len(row) for row in rows]) for rows in (CHOSEN, REJECTED))
    l_w, r_w, l_l, r_l = (sums(rows) for rows in (CHOSEN, chosen, REJECTED, rejected))
    a, b, m_w, m_l, numbers, known = l_w - r_w, l_l - r_l, l_w / n_w, l_l / n_l, numbers_of(loss), labels()
    numbers |= {"beta": loss.beta, "e": numbers.get("label_smoothing", 0.0)}
    symbols = {"l_w": l_w, "l_l": l_l, "r_w": r_w, "r_l": r_l, "n_w": n_w, "n_l": n_l, "m_w": m_w, "m_l": m_l}
    symbols |= {"a": a, "b": b, "h": a - b, "p": known.preference, "s_w": known.score_chosen, "s_l": known.score_rejected}
    symbols |= {"q": torch.sigmoid(loss.beta * (a - b)), "shift": loss.beta * torch.cat([a, b]).mean()}
    symbols |= {"w_w": (m_w - SQUARES).exp(), "w_l": (m_l - SQUARES).exp()}
    symbols |= {
        "a_first": sums(CHOSEN, shorter) - sums(chosen, shorter),
        "b_first": sums(REJECTED, shorter) - sums(rejected, shorter),
    }
    value = eval(formula, {"__builtins__": {}}, {**numbers, **symbols, **FUNCTIONS})
    return torch.as_tensor(value, dtype=torch.float64).expand(3)


def test_every_option_of_a_loss_stands_in_the_methods_table_once() -> None:
    assert sorted(row[0] for row in LOSSES) == sorted(f"`loss={name}`" for name in options("loss"))


@every_row
def test_a_row_names_the_class_of_its_yaml_and_the_papers_of_its_docstring(row: list[str]) -> None:
    name = row[0].removeprefix("`loss=").rstrip("`")
    config: Any = OmegaConf.load(CONF / "loss" / f"{name}.yaml")
    target = (config.loss if "defaults" in config else config)._target_
    assert row[3] == f"`{target}`"
    papers = re.findall(r"\d{4}\.\d{5}|eq\. \d+(?: and \d+)?", row[2])
    assert papers or "Mitchell 2023" in row[2]
    source = inspect.getsource(inspect.getmodule(get_class(target)) or get_class(target))
    assert [paper for paper in papers if paper not in source] == []


@every_row
def test_a_row_says_what_its_loss_declares_to_need(row: list[str]) -> None:
    loss = from_conf(row[0].removeprefix("`loss=").rstrip("`"))
    declared = {
        *(["reference"] if loss.needs_reference else []),
        *loss.needs_labels,
        *(["whole step"] if loss.couples_pairs else []),
        *(["full softmax"] if loss.needs_full_softmax else []),
    }
    assert set(row[5].split(", ")) == (declared or {"nothing"})


@every_row
def test_a_rows_formula_is_what_its_loss_computes(row: list[str]) -> None:
    loss = from_conf(row[0].removeprefix("`loss=").rstrip("`"))
    found = loss(pairs_of(CHOSEN + REJECTED, labels()), pairs_of(CHOSEN_REFERENCE + REJECTED_REFERENCE))
    worked_out = evaluated(row[1].strip("`"), loss, CHOSEN_REFERENCE, REJECTED_REFERENCE)
    assert torch.allclose(found, worked_out, rtol=1e-6), (found, worked_out)


@every_row
def test_a_rows_start_value_is_that_of_its_loss_at_policy_equal_to_reference(row: list[str]) -> None:
    loss = from_conf(row[0].removeprefix("`loss=").rstrip("`"))
    same = pairs_of(CHOSEN + REJECTED, labels())
    start = evaluated((row[1] if row[4] == "the formula" else row[4]).strip("`"), loss, CHOSEN, REJECTED)
    assert torch.allclose(loss(same, same), start, rtol=1e-6), start


def jobs(words: list[str]) -> Iterator[list[str]]:
    """Yield the overrides of every job of a command; with -m each combination of its lists is one."""
    overrides = [word for word in words if word != "-m"]
    choices = [[f"{key_of(word)}={value}" for value in word.split("=")[1].split(",")] for word in overrides]
    yield from map(list, product(*choices)) if "-m" in words else [overrides]


def test_every_row_of_coming_from_elsewhere_has_a_command() -> None:
    assert len(COMING) == len(rows_of("| from | their setting |")) > 40


@pytest.mark.parametrize("command", list(dict.fromkeys(COMING)))
def test_a_command_for_those_who_come_from_elsewhere_composes(command: str) -> None:
    with initialize_config_dir(str(CONF), version_base="1.3"):
        for overrides in jobs(shlex.split(command)):
            assert isinstance(build(compose("train", overrides, return_hydra_config=True)), Component)
