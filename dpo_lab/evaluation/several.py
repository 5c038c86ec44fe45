"""Several measures as one: evaluation=both."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from dpo_lab.components import ConfigError, component
from dpo_lab.data.base import Prompts
from dpo_lab.evaluation.base import Measure, Setting
from dpo_lab.evaluation.context import Context, Measured
from dpo_lab.figures import Figure


@component
class SeveralMeasures(Measure):
    """Measures beside one another; each names and measures its own figures."""

    measures: dict[str, Measure]
    """By a name of your choice, in the order of the screen; runs are compared by the main figure of the first that has one."""

    @property
    def on_pairs(self) -> bool:  # type: ignore[override]  # a class has it as a variable, several have that of their measures
        """Whether one of them reads held-out pairs."""
        return any(measure.on_pairs for measure in self.measures.values())

    @property
    def asks(self) -> Prompts | None:
        """The prompts of the first measure that answers some."""
        return next((measure.asks for measure in self.measures.values() if measure.asks), None)

    @property
    def alone(self) -> Mapping[str, Measure]:
        """Its measures."""
        return self.measures

    def check(self) -> None:
        """Raise ConfigError if there is nothing to measure, or one of them has its own `every`."""
        if not self.measures:
            raise ConfigError(
                "measures={}: nothing is measured. Add one, for instance +evaluation@evaluation.measures.pairs=preference"
            )

        if apart := next((name for name, measure in self.measures.items() if measure.every), None):
            every = self.measures[apart].every
            wrong = f"evaluation.measures.{apart}.every={every}"
            raise ConfigError(f"{wrong}: all measures are measured at the same steps; use evaluation.every={every}.")

    def check_slowly(self) -> None:
        """Leave it to the measures, which are asked too."""

    def bytes_needed(self, device: str) -> float:
        """Return what the largest of them takes: one is measured after the other."""
        return max(measure.bytes_needed(device) for measure in self.measures.values())

    def figures(self, setting: Setting) -> list[Figure]:
        """Return the figures of all.

        Raises:
            ConfigError: if two of them have the same figure.
        """
        figures = [figure for measure in self.measures.values() for figure in measure.figures(setting)]
        if twice := [name for name, count in Counter(figure.name for figure in figures).items() if count > 1]:
            raise ConfigError(f"two measures of evaluation.measures have the figure {twice[0]}; leave one of them out.")
        return figures

    def measure(self, context: Context) -> Measured:
        """Measure one after the other; the answers are those of the first that draws some."""
        found = [measure.measure(context) for measure in self.measures.values()]
        return Measured(
            {name: value for measured in found for name, value in measured.figures.items()},
            next((measured.answers for measured in found if measured.answers), ()),
            {name: observed for measured in found for name, observed in measured.observed.items()},
            next((measured.credit for measured in found if measured.credit), ()),
        )

    def heading(self, summary: Mapping[str, Any]) -> str:
        """Return the headings, joined."""
        return ", ".join(measure.heading(summary) for measure in self.measures.values())

    def lines(self, summary: Mapping[str, Any]) -> Sequence[str]:
        """Return the lines of all."""
        return [line for measure in self.measures.values() for line in measure.lines(summary)]

    def note(self, summary: Mapping[str, Any]) -> str:
        """Return why no figure can tell whether the run worked, empty if those of one measure can."""
        notes = [measure.note(summary) for measure in self.measures.values()]
        return notes[0] if all(notes) else ""
