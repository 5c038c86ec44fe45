"""TensorBoard: a run's figures as scalars, its configuration as hyperparameters and text."""

import json
import shlex
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from dpo_lab.components import ConfigError, component
from dpo_lab.loggers.base import Follower, Mark, Row, RunIdentity, RunLogger
from dpo_lab.plain_data import leaves
from dpo_lab.progress import say

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter


@component
class TensorBoardLogger(RunLogger):
    """Event files in loggers/tensorboard of the run's directory: `tensorboard --logdir outputs/train` shows all runs."""

    def check(self) -> None:
        """Raise ConfigError without the package."""
        if find_spec("tensorboard") is None:
            raise ConfigError(
                "logger=tensorboard needs tensorboard, which is not installed here. "
                "Install it (pip install tensorboard), or leave it out: every figure is in metrics.jsonl anyway."
            )

    def open(self, run: RunIdentity, mark: Mark) -> Follower:
        """Return the writer of event files."""
        from torch.utils.tensorboard import SummaryWriter

        # events after the last known step are what a kill left behind: readers drop them, they are sent again
        writer = SummaryWriter(str(mark.directory), purge_step=mark.sent + 1)
        if not mark.sent:
            facts = {"name": run.name, "id": run.id, "group": run.group, "tags": list(run.tags), "notes": run.notes}
            writer.add_text("run", as_code(facts))
            writer.add_text("config", as_code(run.config))
        say(f"  TensorBoard: tensorboard --logdir {shlex.quote(str(run.directory.parent))}")
        return TensorBoardFiles(writer, run.config)


class TensorBoardFiles(Follower):
    """Writes each row at once."""

    def __init__(self, writer: "SummaryWriter", config: Mapping[str, Any]) -> None:
        self.writer, self.config = writer, config

    def send(self, row: Row) -> None:
        """Write the figures of a step under their own names."""
        for name, value in row.items():
            if name != "step":
                self.writer.add_scalar(name, value, row["step"])
        self.writer.flush()

    def summarise(self, summary: Row, samples: Sequence[Row]) -> None:
        """Write the configuration and the figures (summary/...) as hyperparameters, and the samples as text."""
        numbers = {f"summary/{name}": value for name, value in summary.items()}
        self.writer.add_hparams(flat(self.config), numbers, run_name=".")  # its default is a second run named by the time
        for number, sample in enumerate(samples):
            self.writer.add_text("samples", as_code(sample), number)

    def close(self, *, failed: bool) -> None:
        """Close the file."""
        self.writer.close()


def as_code(data: Mapping[str, Any]) -> str:
    """Return data as the Markdown of a code block."""
    return "".join(f"    {line}\n" for line in json.dumps(data, indent=1, ensure_ascii=False).splitlines())


def flat(config: Any) -> dict[str, Any]:
    """Return nested data as dotted keys; what hyperparameters cannot be (lists, None) becomes text.

    >>> flat({"loss": {"beta": 0.1}, "tags": ["a"], "group": None})
    {'loss.beta': 0.1, 'tags': '["a"]', 'group': 'null'}
    """
    return {key: leaf if isinstance(leaf, str | int | float) else json.dumps(leaf) for key, leaf in leaves(config)}
