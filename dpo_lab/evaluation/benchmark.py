"""Public test sets, asked by lm-evaluation-harness: benchmark=lm_eval."""

from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from pydantic import NonNegativeInt, PositiveInt

from dpo_lab.artifacts import file_digest
from dpo_lab.components import ConfigError, component
from dpo_lab.evaluation.base import Measure, Setting
from dpo_lab.evaluation.context import Context, Measured
from dpo_lab.evaluation.intervals import intervals_of
from dpo_lab.figures import Figure

PACKAGE = "lm_eval"


@component
class LMEvalBenchmark(Measure):
    """Tasks of lm-evaluation-harness, each figure as the harness computes it, with an interval over the documents."""

    tasks: tuple[str, ...]
    """Names of tasks, groups or tags of the harness."""
    include_path: Path | None = None
    """A directory with tasks of your own, as yaml files."""
    num_fewshot: NonNegativeInt | None = None
    """Examples in front of each document; null: as many as the task says."""
    limit: PositiveInt | None = None
    """At most so many documents of each task, the first ones; null: all."""
    batch_size: PositiveInt = 8
    chat_template: bool = False
    """Whether a document is put into the model's chat template; the harness's own figures are without it."""

    @property
    def label(self) -> str:
        """What the part of a report is called."""
        return f"lm-evaluation-harness: {', '.join(self.tasks)}"

    def check(self) -> None:
        """Raise ConfigError without the package, without a task, or if the directory of tasks does not exist."""
        try:
            version(PACKAGE)
        except PackageNotFoundError:
            raise ConfigError(
                "benchmark=lm_eval needs lm-evaluation-harness, which is not installed. "
                "Install it: pip install 'lm-eval>=0.4.13,<0.5'"
            ) from None
        if not self.tasks:
            raise ConfigError("tasks=[]: nothing is asked. Name tasks of lm-evaluation-harness: tasks=[hellaswag,arc_easy]")
        if twice := next((name for name in self.tasks if self.tasks.count(name) > 1), None):
            raise ConfigError(f"tasks=[{','.join(self.tasks)}]: {twice} stands there twice. Leave one of them out.")
        if self.include_path and not self.include_path.is_dir():
            raise ConfigError(f"include_path={self.include_path} is not a directory (now in {Path.cwd()}).")

    def content(self) -> dict[str, Any]:
        """Return what determines the figures: not the batch size, but the files of the tasks, and the harness's version."""
        fields = {name: value for name, value in super().content().items() if name not in ("batch_size", "include_path")}
        path = self.include_path
        files = sorted(file for file in path.rglob("*") if file.is_file()) if path and path.is_dir() else []
        kept = [file for file in files if "__pycache__" not in file.parts]
        own = {each.relative_to(path).as_posix(): file_digest(each) for each in kept} if path else {}
        return {**fields, "own tasks": own, "harness": version(PACKAGE)}

    def figures(self, setting: Setting) -> list[Figure]:
        """Return the harness's figures of the tasks.

        Unlike other measures it reads the tasks and their documents, which alone say what the figures are.
        """
        from dpo_lab.evaluation.harness.tasks import figures_of

        self.check()
        return [
            Figure(
                name=figure.name,
                title=f"{figure.words}, lm-evaluation-harness",
                row=figure.words,
                better=None if figure.better is None else "max" if figure.better else "min",
                interval=True,
                before="measured",
                headline=figure.headline,
            )
            for figure in figures_of(self.tasks, self.include_path)
        ]

    def measure(self, context: Context) -> Measured:
        """Have the harness ask the policy."""
        from dpo_lab.evaluation.harness.ask import asked, observed_in, values_in
        from dpo_lab.evaluation.harness.tasks import figures_of

        figures = figures_of(self.tasks, self.include_path)
        with context.policy.lent(context.device) as loaded:
            found = asked(
                loaded,
                self.tasks,
                self.include_path,
                device=context.device,
                half=context.precision.in_products(context.device),
                directory=context.directory,
                batch_size=self.batch_size,
                num_fewshot=self.num_fewshot,
                limit=self.limit,
                apply_chat_template=self.chat_template,
            )
        values = values_in(found, figures)
        observed = observed_in(found, figures, values)
        shares = [name for name, each in observed.items() if all(0 <= value <= 1 for value in each.values)]
        return Measured({**values, **intervals_of(observed, shares)}, (), observed)

    def heading(self, summary: Mapping[str, Any]) -> str:
        """Return which tasks were asked."""
        return self.label
