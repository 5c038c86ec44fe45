"""Weights & Biases: one W&B run per run of ours, online or offline, never with a prompt."""

import os
import shlex
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field, PositiveInt

from dpo_lab.components import ConfigError, component
from dpo_lab.figures import BETTER, Better
from dpo_lab.loggers.base import Follower, Mark, Row, RunIdentity, RunLogger
from dpo_lab.loggers.lineage import Part
from dpo_lab.loggers.wandb_parts import Sent, send_parts
from dpo_lab.progress import say

if TYPE_CHECKING:
    import wandb

NAME_LENGTH, TAG_LENGTH = 128, 64  # W&B refuses longer names of groups and longer tags
INIT_SECONDS = 30  # how long a run waits for a server that does not answer; W&B's own default is 90


@component
class WandbLogger(RunLogger):
    """Weights & Biases; the run's own metrics.jsonl stays the truth."""

    project: Annotated[str, Field(pattern=r"^[^/\\#?%:]{1,128}$")] = "dpo-lab"
    """The project that runs go to."""
    entity: str | None = None
    """User or team; None is the account's default."""
    mode: Literal["auto", "online", "offline"] = "auto"
    """auto: online if an API key is configured (and WANDB_MODE does not say otherwise), else offline, to be sent later."""
    samples: bool = False
    """Whether prompts and answers are sent too, as a table."""
    artifacts: Sent = "lineage"
    """What is sent of the run's parts: none: their digests in the configuration; lineage: W&B artifacts that hold a digest, no
    text and no weights; policy: the weights of the last policy too."""
    flush_seconds: PositiveInt = 1
    """How much history a kill may lose; W&B's own default is 15."""

    def check(self) -> None:
        """Raise ConfigError without the package, or if online was asked for and there is no key."""
        try:
            import wandb  # noqa: F401
        except ImportError as error:
            raise ConfigError(
                f"logger=wandb needs wandb, which cannot be imported here ({error}). "
                "Install it (pip install wandb), or leave it out: every figure is in metrics.jsonl anyway."
            ) from None
        if self._mode() == "online" and not has_key():
            raise ConfigError(
                "logger.wandb.mode=online, but no API key is configured, and a run never stops to ask for one. "
                "Set WANDB_API_KEY or run `wandb login` once, or use logger.wandb.mode=offline and send the run later."
            )

    def destination(self) -> str:
        """Return project, mode and what is sent; each run of a W&B sweep is a separate destination."""
        sweep_run = os.environ.get("WANDB_RUN_ID", "") if in_sweep() else ""
        also = [" with samples" if self.samples else "", f" artifacts {self.artifacts}" if self.artifacts != "lineage" else ""]
        return f"{self.entity or ''}/{self.project}/{sweep_run} {self._mode()}{''.join(also)}"

    def open(self, run: RunIdentity, mark: Mark) -> Follower:
        """Return the W&B run, the same one for a resumed run."""
        import wandb

        mode = self._mode()
        mark.directory.mkdir(parents=True, exist_ok=True)
        wandb_run = wandb.init(
            project=self.project,
            entity=self.entity,
            dir=mark.directory.resolve(),
            id=None if in_sweep() else f"{run.id[:8]}{mark.token}",  # an agent brings the id of its sweep's run
            resume=None if in_sweep() else "allow",
            name=f"{run.label}-{run.id[:8]}" if run.label else run.name,
            group=shortened(run.group),
            job_type=run.job,
            tags=list(dict.fromkeys(tag[:TAG_LENGTH] for tag in run.tags if tag)),
            notes=run.notes or None,
            config=dict(run.config),
            mode=mode,
            reinit="create_new",  # neither joins nor ends a run that the process has open already
            settings=quiet_settings(wandb, self.flush_seconds),
        )
        later = f"offline; to send this run later: wandb sync {shlex.quote(str(mark.directory / 'wandb'))}/offline-run-*"
        say(f"  W&B: {wandb_run.url if mode == 'online' else later}")
        return WandbRun(wandb_run, self, mark.directory, run.better)

    def _mode(self) -> Literal["online", "offline"]:
        if self.mode != "auto":
            return self.mode
        return "online" if os.environ.get("WANDB_MODE", "online") == "online" and has_key() else "offline"


class WandbRun(Follower):
    """An open run of W&B."""

    def __init__(
        self, run: "wandb.Run", logger: WandbLogger, directory: Path, better: Mapping[str, Better] = MappingProxyType({})
    ) -> None:
        self.run, self.logger, self.directory = run, logger, directory
        self.settle_seconds = logger.flush_seconds + 1.0
        run.define_metric("*", step_metric="step")
        for name, direction in {**BETTER, **better}.items():  # the best value is worth a column beside the last
            run.define_metric(name, step_metric="step", summary=f"last,{direction}")

    def send(self, row: Row) -> None:
        """Log a row at its own step; online, what the server has already is left out."""
        if row["step"] >= self.run.step:
            self.run.log(dict(row), step=row["step"], commit=True)  # else a row waits until the next step comes

    def summarise(self, summary: Row, samples: Sequence[Row]) -> None:
        """Set the run's summary; log the samples as a table if that was asked for."""
        self.run.summary.update(dict(summary))
        if self.logger.samples and samples:
            self.show({"samples": samples})

    def show(self, tables: Mapping[str, Sequence[Row]]) -> None:
        """Log each table; its file waits below the run's directory."""
        import wandb

        for title, rows in tables.items():
            columns: list[str | int] = list(dict.fromkeys(name for row in rows for name in row))
            data = [[row.get(str(name)) for name in columns] for row in rows]
            with files_below(self.directory):
                self.run.log({title: wandb.Table(columns=columns, data=data)})

    def trace(self, parts: Sequence[Part]) -> None:
        """Note what the run started from and what it made; files that wait to be sent stay below the run's directory."""
        with files_below(self.directory):
            send_parts(self.run, parts, self.logger.artifacts)

    def warn(self, title: str, text: str) -> None:
        """Raise an alert, which W&B sends by mail or chat as its user has set."""
        self.run.alert(title=title, text=text, level="WARN", wait_duration=0)

    def close(self, *, failed: bool) -> None:
        """End the W&B run, so that nothing else is ever logged to it."""
        self.run.finish(exit_code=int(failed))


def in_sweep() -> bool:
    """Return whether an agent of a W&B sweep started this process."""
    return bool(os.environ.get("WANDB_SWEEP_ID"))


def has_key() -> bool:
    """Return whether W&B has credentials (environment, netrc, settings), without asking anybody."""
    import wandb

    wandb.setup(wandb.Settings(silent=True))
    try:
        return wandb.login(prompt=False, verify=False)
    except (wandb.Error, ValueError) as error:
        raise ConfigError(
            f"logger=wandb: the configured API key cannot be used ({error}). Correct WANDB_API_KEY or run `wandb login`, "
            "or use logger.wandb.mode=offline."
        ) from None


def quiet_settings(wandb: Any, flush_seconds: float) -> Any:
    """Return settings that print nothing, take no console output and no code, and write history often."""
    settings = wandb.Settings(console="off", silent=True, disable_code=True, save_code=False, init_timeout=INIT_SECONDS)
    with suppress(AttributeError, ValueError):  # names with x_ may vanish: then W&B's own interval stands
        settings.x_transaction_log_flush_interval = float(flush_seconds)
    return settings


def shortened(group: str | None) -> str | None:
    """Return a group's name in the length that W&B takes, its end (the id) kept.

    >>> shortened("sweep-3f9c2a10")
    'sweep-3f9c2a10'
    >>> len(shortened("long" * 40))
    128
    """
    return group if group is None or len(group) <= NAME_LENGTH else f"{group[: NAME_LENGTH - 12]}...{group[-9:]}"


@contextmanager
def files_below(directory: Path) -> Iterator[None]:
    """Keep the files of W&B's artifacts below a directory, so that it can be copied and sent from elsewhere.

    Its own default is a directory of the user, where `wandb sync` on another machine would not find them.
    """
    names = {"WANDB_DATA_DIR": "data", "WANDB_CACHE_DIR": "cache"}
    before = {name: os.environ.get(name) for name in names}
    os.environ.update({name: str(directory.resolve() / below) for name, below in names.items()})
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
