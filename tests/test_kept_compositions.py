"""What tests compose from what was kept is what Hydra composes from the files."""

import subprocess
import sys
from pathlib import Path

import yaml
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from dpo_lab.conf_files import CONF
from tests.kept_compositions import compositions_kept

COMMANDS = [
    "seed=3",
    "loss=simpo loss.gamma=1.5 sampler.num_samples=4",
    "loss=simpo loss.gamma=2 debug=fast",
    "adapter=lora adapter.rank=4 hydra/job_logging=disabled",
    "seed=4 ++recipe.other={one:1} ~logger",
]
OF_THE_FILES = """
import sys, yaml
sys.path.insert(0, {root!r})
from tests.test_kept_compositions import COMMANDS, composed
yaml.safe_dump([composed(command) for command in COMMANDS], sys.stdout)
"""


def composed(command: str) -> str:
    """Return what Hydra composes for a command of the stage train."""
    with initialize_config_dir(str(CONF), version_base="1.3"):
        return OmegaConf.to_yaml(compose("train", command.split(), return_hydra_config=True))


def test_kept_compositions_are_those_of_the_files() -> None:
    code = OF_THE_FILES.format(root=str(Path(__file__).parents[1]))
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    wanted = yaml.safe_load(done.stdout)
    for _ in range(2):
        assert [composed(command) for command in COMMANDS] == wanted


def test_a_directory_that_a_test_writes_is_read_anew(tmp_path: Path) -> None:
    option = tmp_path / "sweep" / "mine.yaml"
    option.parent.mkdir()
    for seed in (7, 8):
        option.write_text(f"# @package _global_\nseed: {seed}\n")
        with compositions_kept():
            assert yaml.safe_load(composed(f"hydra.searchpath=[{tmp_path}] sweep=mine"))["seed"] == seed
