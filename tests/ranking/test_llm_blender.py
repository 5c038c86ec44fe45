"""llm-blender: what it is lent is taken back, what it cannot do is refused, and its scores are those of `ranker=pairrm`."""

import json
import logging
import sys
import warnings
from collections.abc import Iterator
from importlib import import_module
from importlib.metadata import PackageNotFoundError
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from dpo_lab.components import ConfigError, RunError
from dpo_lab.ranking.blender.lending import lent
from dpo_lab.ranking.blender.ranker import LLMBlender, OpenBlender, _encoder
from dpo_lab.records import Candidates, Prompt
from tests.ranking.pairrm_directory import SHAPE, write

CPU = torch.device("cpu")
GOLDEN = Path(__file__).resolve().parents[3] / "shared" / "data" / "golden" / "pairrm"
INSTALLED = find_spec("llm_blender") is not None
SHORT = (0, 1, 2, 5, 6, 7, 10, 11, 12, 15, 16, 17, 18, 19)
"""Golden sets in which nothing is long: the package pads each text to 1224 tokens before it cuts the batch to its own."""

INIT = """
import logging, warnings, torch
from transformers.utils.hub import TRANSFORMERS_CACHE
import llm_blender.blender.blender_utils
if BROKEN == "import": raise RuntimeError("no such card")

class Blender:
    def loadranker(self, path, **settings):
        from llm_blender.blender import blender_utils
        from llm_blender.pair_ranker import model_util
        logging.warning("loading"); warnings.warn("old"); print("loaded"); torch.rand(3)
        logging.getLogger().setLevel(logging.DEBUG)
        self.ranker_tokenizer = blender_utils.build_tokenizer(path, cache_dir=None)
        self.ranker = model_util.build_pretrained_model("deberta", path)
"""


@pytest.fixture
def double(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A package of that name which does to the process what llm-blender does; `broken` says where it fails."""
    kept = {name: module for name, module in sys.modules.items() if name.split(".")[0] == "llm_blender"}
    monkeypatch.syspath_prepend(tmp_path)

    def made(broken: str = "") -> None:
        for name, text in (
            ("llm_blender", f"BROKEN = {broken!r}\n{INIT}"),
            ("llm_blender/blender", ""),
            ("llm_blender/pair_ranker", ""),
        ):
            (tmp_path / name).mkdir()
            (tmp_path / name / "__init__.py").write_text(text)
        (tmp_path / "llm_blender/blender/blender_utils.py").write_text("def build_tokenizer(*_, **__): return 'its own'")
        (tmp_path / "llm_blender/pair_ranker/model_util.py").write_text("def build_pretrained_model(*_, **__): return 'its own'")
        for name in kept:
            del sys.modules[name]

    yield made
    for name in [name for name in sys.modules if name.split(".")[0] == "llm_blender"]:
        del sys.modules[name]
    sys.modules.update(kept)


def state() -> list[Any]:
    """Return what the package changes when it is left alone."""
    root, hub = logging.getLogger(), import_module("transformers.utils.hub")
    return [
        *(vars(hub).get("TRANSFORMERS_CACHE"), list(root.handlers), root.level, list(warnings.filters), sys.stdout),
        torch.random.get_rng_state().tolist(),
    ]


@pytest.mark.parametrize("broken", ["", "import", "load"])
def test_what_is_lent_is_taken_back_also_by_an_exception(double: Any, broken: str, capsys: pytest.CaptureFixture[str]) -> None:
    double(broken)
    before = state()

    def encoder() -> str:
        if broken == "load":
            raise RuntimeError("no such card")
        return "our encoder"

    def load() -> None:
        with lent(lambda: "our tokenizer", encoder) as package:
            blender = package.Blender()
            blender.loadranker("there")
            assert (blender.ranker_tokenizer, blender.ranker) == ("our tokenizer", "our encoder")

    if broken:
        with pytest.raises(RuntimeError, match="no such card"):
            load()
    else:
        load()
    assert state() == before
    assert capsys.readouterr() == ("", "")
    if broken == "import":
        assert not [name for name in sys.modules if name.startswith("llm_blender")], "half an import stays"
    else:
        own = (import_module("llm_blender.blender.blender_utils"), import_module("llm_blender.pair_ranker.model_util"))
        assert (own[0].build_tokenizer(), own[1].build_pretrained_model()) == ("its own", "its own")


def test_a_package_that_is_missing_or_another_version_is_refused_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(_: str) -> str:
        raise PackageNotFoundError

    monkeypatch.setattr("dpo_lab.ranking.blender.ranker.version", missing)
    with pytest.raises(ConfigError, match=r"needs the package llm-blender, which is not installed\. Install it \(pip install"):
        LLMBlender().check()
    monkeypatch.setattr("dpo_lab.ranking.blender.ranker.version", lambda _: "0.1.0")
    with pytest.raises(ConfigError, match=r"knows llm-blender 0\.0\.2, and 0\.1\.0 is installed.*or use ranker=pairrm"):
        LLMBlender().check()


def test_the_encoder_that_is_lent_says_how_wide_its_states_are_to_the_package_s_head(tmp_path: Path) -> None:
    write(tmp_path / "own", "PairRM")
    encoder = _encoder(tmp_path / "own", tmp_path / "own" / "backbone")
    assert encoder.config.out_hidden_state_size == SHAPE["hidden_size"] == encoder.get_input_embeddings().embedding_dim


def test_the_package_is_lent_the_tokenizer_and_the_encoder_of_the_directory(
    double: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dpo_lab.ranking.blender.ranker.version", lambda _: "0.0.2")
    write(tmp_path / "own", "PairRM")
    double()
    with LLMBlender(path=str(tmp_path / "own"), backbone=str(tmp_path / "own" / "backbone")).open(CPU) as opened:
        assert isinstance(opened, OpenBlender)
        assert opened.blender.ranker.config.hidden_size == SHAPE["hidden_size"]
        assert opened.blender.ranker_tokenizer.encode("why", add_special_tokens=False)


def test_the_other_layout_and_a_package_that_fails_are_refused(
    double: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dpo_lab.ranking.blender.ranker.version", lambda _: "0.0.2")
    write(tmp_path / "hf")
    with pytest.raises(ConfigError, match=r"is in the layout of llm-blender/PairRM-hf, which llm-blender does not read"):
        LLMBlender(path=str(tmp_path / "hf")).check()
    write(tmp_path / "own", "PairRM")
    ranker = LLMBlender(path=str(tmp_path / "own"), backbone=str(tmp_path / "own" / "backbone"))
    double("import")
    with (
        pytest.raises(ConfigError, match=r"cannot load .* \(RuntimeError: no such card\).*use ranker=pairrm"),
        ranker.open(CPU),
    ):
        pass


class Network:
    """Compares answers by their lengths."""

    def _full_predict(self, candidates: list[str]) -> dict[str, torch.Tensor]:
        lengths = torch.tensor([float(len(text)) for text in candidates])
        return {"logits": (lengths[:, None] - lengths)[None]}


class Package:
    """The package's `rank`: it returns scores and keeps its comparisons to itself."""

    def __init__(self) -> None:
        self.ranker = Network()
        self.asked: list[list[str]] = []

    def rank(self, sources: list[str], candidates: list[list[str]], **_: Any) -> Any:
        (answers,) = candidates
        if "fail" in sources[0]:
            raise RuntimeError("sizes of tensors must match")
        self.asked.append(answers)
        matrix = self.ranker._full_predict(candidates=answers)["logits"][0]
        return (matrix - matrix.T).mean(-1)[None].numpy()


def test_scores_come_with_the_comparisons_and_texts_without_tokens_of_the_format() -> None:
    package = Package()
    sets = [Candidates(prompt=Prompt.from_text("why?"), responses=("a", "b[SEP]", "c<|candidate|>dd"))]
    (verdict,) = OpenBlender(package).rank(sets)
    assert package.asked == [["a", "b ", "c dd"]]
    assert verdict.pairwise == ((0.0, -1.0, -3.0), (1.0, 0.0, -2.0), (3.0, 2.0, 0.0))
    assert verdict.scores == pytest.approx((-8 / 3, -2 / 3, 10 / 3))
    assert not vars(package.ranker), "the network computes as before"
    with pytest.raises(RunError, match=r"llm-blender failed for the prompt 'fail\?': RuntimeError: sizes of tensors"):
        OpenBlender(package).rank([Candidates(prompt=Prompt.from_text("fail?"), responses=("a", "b"))])


@pytest.mark.skipif(not INSTALLED, reason="llm-blender is not installed: pip install 'dpo-lab[blender]'")
@pytest.mark.skipif(not GOLDEN.is_dir(), reason="the golden scores of llm-blender are not here")
def test_the_package_itself_on_this_transformers_has_the_scores_of_pairrm() -> None:
    sets = [json.loads((GOLDEN / "expected.json").read_text())["sets"][number] for number in SHORT]
    asked = [Candidates(prompt=Prompt.from_text(one_set["source"]), responses=tuple(one_set["candidates"])) for one_set in sets]
    ranker = LLMBlender(path=str(GOLDEN / "PairRM"), backbone=str(GOLDEN / "backbone"))
    ranker.check()
    with ranker.open(CPU) as theirs, ranker.pairrm.open(CPU) as ours:
        for one, other, each in zip(theirs.rank(asked), ours.rank(asked), sets, strict=True):
            assert np.allclose(one.pairwise, other.pairwise, rtol=0, atol=1e-5)
            assert np.allclose(one.scores, other.scores, rtol=0, atol=1e-5)
            assert np.allclose(one.pairwise, each["logits"], rtol=0, atol=1e-5)
