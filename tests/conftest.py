"""Fixtures that several test directories use."""

import gc
import signal
import sys
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from dpo_lab import progress
from dpo_lab.models.spec import TinyModel
from dpo_lab.models.tiny import learn_tokenizer, untrained
from dpo_lab.report import charts, ranker
from dpo_lab.tokens.store import StoreBuilder, TokenStore
from tests.kept_compositions import compositions_kept

torch.set_num_threads(1)  # small tensors: two threads are slower, and far slower on a shared machine
if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:  # tests begun by nohup: their runs would ignore a closed terminal too
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # tests begun in a shell's background: their programs would ignore Ctrl-C
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Collect no garbage while all tests and what they import are read: there is next to none, and looking took a fifth."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.enable()
        gc.freeze()


@pytest.fixture(scope="session")
def _frozen() -> list[int]:
    """How many modules were loaded when collections last began to pass over what lives."""
    return [0]


@pytest.fixture(autouse=True)
def _libraries_left_out_of_collections(_frozen: list[int]) -> None:
    """Let collections pass over what lives already where many modules were loaded since, mostly those of libraries.

    A run collects garbage several times (memory/host.py), and each time over torch, transformers and Lightning took 0.3 s:
    a third of a small run. What a test makes is collected as ever.
    """
    if len(sys.modules) > _frozen[-1] + 100:
        gc.collect()
        gc.freeze()
        _frozen[:] = [len(sys.modules)]


@pytest.fixture(scope="session", autouse=True)
def _conf_composed_once() -> Iterator[None]:
    """Let Hydra compose the same choices of conf/ once for all tests."""
    with compositions_kept():
        yield


@pytest.fixture(autouse=True)
def _nothing_said_yet(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let each test be a run of its own, which says what holds for all of it once."""
    monkeypatch.setattr(progress, "_said", set())


@pytest.fixture(autouse=True)
def _reports_without_drawings(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave the drawings of a run's report empty: a fourth of a small run is 14 charts that no test of it looks at.

    Drawn are those of tests/report, of runs that the tests of a file share (fixtures of the module), and of other processes.
    """
    if "report" in request.path.parts:
        return
    for module, name in ((charts, "line_chart"), (charts, "histogram"), (ranker, "line_chart")):
        monkeypatch.setattr(module, name, lambda *values, **settings: "<svg></svg>")


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The directory of shared reference data beside the repository; tests that need it are skipped without it."""
    data = Path(__file__).resolve().parents[2] / "shared" / "data"
    if not data.is_dir():
        pytest.skip("no ../shared/data beside this checkout: the reference data sets are not part of the repository")
    return data


@pytest.fixture(scope="session")
def tokenizer() -> Any:
    """A byte-level tokenizer with some merges."""
    return learn_tokenizer([" a b c d e f g h", " good bad film"] * 3, 300)


def small_model(tokenizer: Any, seed: int = 0) -> nn.Module:
    """Return a random Mistral of 2 layers and width 32."""
    return untrained(TinyModel(hidden_size=32, intermediate_size=48), tokenizer, seed)


@pytest.fixture
def model(tokenizer: Any) -> nn.Module:
    """A random Mistral of 2 layers and width 32, fresh for each test."""
    return small_model(tokenizer)


@pytest.fixture
def other_model(tokenizer: Any) -> nn.Module:
    """Another random Mistral of the same shape."""
    return small_model(tokenizer, seed=1)


@pytest.fixture(scope="session")
def store() -> TokenStore:
    """Twelve pairs: four prompts of several lengths, three answers each, in all pairs."""
    generator = torch.Generator().manual_seed(0)

    def ids(length: int) -> list[int]:
        return torch.randint(5, 250, (length,), generator=generator).tolist()

    builder = StoreBuilder()
    for prompt_length in (1, 3, 8, 13):
        prompt = ids(prompt_length)
        answers = [builder.add_response(prompt, [*ids(length), 1]) for length in (0, 4, 9)]
        for chosen, rejected in ((0, 1), (0, 2), (2, 1)):
            builder.add_item([answers[chosen], answers[rejected]])
    return builder.build()
