"""docs/wandb_sweep.yaml: what W&B's agent types is a command line that composes, and the figure it looks at is one of a run."""

from pathlib import Path
from typing import Any

import pytest
import yaml
from hydra import compose, initialize_config_dir

from dpo_lab.cli.build import build
from dpo_lab.conf_files import CONF
from dpo_lab.rules.check import refuse_illegal
from dpo_lab.stages.train import Train

ROOT = Path(__file__).resolve().parents[2]
SWEEP: dict[str, Any] = yaml.safe_load((ROOT / "docs" / "wandb_sweep.yaml").read_text(encoding="utf-8"))


def typed(take: int) -> list[str]:
    """Return the words of a run: of each parameter its first or last value, or an end of its range."""
    ends = {name: spec.get("values") or [spec["min"], spec["max"]] for name, spec in SWEEP["parameters"].items()}
    ours = [word for word in SWEEP["command"] if not word.startswith("${") and word != "python"]
    return [*ours, *(f"{name}={values[take]}" for name, values in ends.items())]


@pytest.mark.parametrize("take", [0, -1], ids=["first", "last"])
def test_what_the_agent_types_composes_to_a_training_that_wandb_follows(take: int) -> None:
    with initialize_config_dir(str(CONF), version_base="1.3"):
        compared = f"optimized_metric={SWEEP['metric']['name']}"
        stage = build(compose("train", [*typed(take), "logger.wandb.mode=offline", compared], return_hydra_config=True))
    assert isinstance(stage, Train)
    refuse_illegal(stage)  # a figure that the summary will not have is refused

    assert "logger=wandb" in typed(take)
    assert (ROOT / SWEEP["program"]).is_file()


def test_the_file_is_one_that_wandb_takes_for_a_sweep() -> None:
    schema = pytest.importorskip("wandb.sdk.launch.sweeps.utils")
    assert schema.load_sweep_config(str(ROOT / "docs" / "wandb_sweep.yaml")) == SWEEP
