"""Components: the class is the schema, and content says what determines a result."""

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest
from pydantic import ValidationError

from dpo_lab.components import Component, component, parts_of, plain
from dpo_lab.losses.dpo import DPOLoss
from dpo_lab.models.quant import FourBit
from dpo_lab.models.spec import TinyModel

SOURCE = """
from dpo_lab.components import Component, component

@component
class Mine(Component):
    strength: float = {default}
"""


def loaded(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location("mine", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    import sys

    sys.modules["mine"] = module
    spec.loader.exec_module(module)
    return module


def test_bad_values_and_unknown_fields_are_refused() -> None:
    with pytest.raises(ValidationError, match="greater than 0"):
        DPOLoss(beta=0.0)
    with pytest.raises(ValidationError, match="bta"):
        DPOLoss(bta=0.1)  # type: ignore[call-arg]


def test_copies_compare_and_hash_equal_and_cannot_change() -> None:
    assert {TinyModel(), TinyModel()} == {TinyModel()}
    with pytest.raises(AttributeError):
        DPOLoss().beta = 1.0  # type: ignore[misc]


def test_content_holds_class_and_fields_down_to_plain_data() -> None:
    content = TinyModel(hidden_size=64).content()
    assert content["class"] == "dpo_lab.models.spec.TinyModel"
    assert content["hidden_size"] == 64
    assert content["quant"] == {"class": "dpo_lab.models.quant.NoQuant"}


def test_an_edited_class_from_outside_is_another_class(tmp_path: Path) -> None:
    path = tmp_path / "mine.py"
    path.write_text(SOURCE.format(default=1.0))
    first = loaded(path).Mine(strength=3.0).content()
    path.write_text(SOURCE.format(default=1.0) + "# edited\n")
    edited = loaded(path).Mine(strength=3.0).content()
    assert first["source"] != edited["source"]
    assert {**first, "source": ""} == {**edited, "source": ""}


def test_parts_are_found_at_their_dotted_keys() -> None:
    keys = [key for key, _ in parts_of(TinyModel(quant=FourBit()), "model")]
    assert keys == ["model", "model.quant", "model.adapter"]


def test_plain_turns_tuples_into_lists_and_paths_into_text() -> None:
    @component
    class Holder(Component):
        path: Path
        numbers: tuple[int, ...]

    assert plain({"a": Holder(path=Path("x"), numbers=(1, 2))})["a"] | {"class": "", "source": ""} == {
        "class": "",
        "source": "",
        "path": "x",
        "numbers": [1, 2],
    }
