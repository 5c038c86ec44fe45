"""The stage `alpaca_eval`: a model's answers in AlpacaEval's format, and the win rates of what its annotator made of them."""

import math
from pathlib import Path
from typing import Any

from pydantic import PositiveFloat

from dpo_lab.amounts import count_of
from dpo_lab.components import Component, ConfigError, RunError, component
from dpo_lab.progress import say
from dpo_lab.records import Candidates, read_jsonl
from dpo_lab.spelling import no_file

WRITTEN = "model_outputs.json"


def line(name: str, value: float, error: float) -> str:
    """Return a win rate in per cent with its standard error."""
    return f"{name:28}{value:.2f} %  (standard error {error:.2f})"


@component
class AlpacaEval(Component):
    """Write model_outputs.json for AlpacaEval 2, or read its annotations: raw and length-controlled win rate, in per cent."""

    answers: Path | None = None
    """candidates.jsonl of sample, or answers.jsonl of an evaluation: the first answer to each prompt is written."""
    generator: str = "dpo-lab"
    """Name of the model."""
    annotations: Path | None = None
    """annotations.json that alpaca_eval made of the outputs."""
    difficulties: Path | None = None
    """JSON list of rows with instruction and difficulty, on the logit scale; null leaves difficulty out of the model."""
    variants: tuple[Path, ...] = ()
    """annotations.json of the baseline's own verbose and concise variants, which hold the weights in place."""
    inverse_penalty: PositiveFloat | None = None
    """C of the L1 penalty of the fit; null: none."""
    outputs: Path = Path("outputs")
    """Everything that is written goes below it."""

    def check(self) -> None:
        """Raise ConfigError unless there is one thing to do."""
        if (self.answers is None) == (self.annotations is None):
            raise ConfigError(
                "give one of answers=FILE, which are written for alpaca_eval, and annotations=FILE, which are read."
            )

    def run(self) -> dict[str, Any]:
        """Write the outputs, or print the win rates; return what was found."""
        self.check()
        paths = {"answers": self.answers, "annotations": self.annotations, "difficulties": self.difficulties}
        paths |= {f"variants.{number}": path for number, path in enumerate(self.variants)}
        if absent := next((no_file(key, path) for key, path in paths.items() if path and not path.is_file()), ""):
            raise ConfigError(absent)
        return self._written(self.answers) if self.answers else self._read()

    def _written(self, answers: Path) -> dict[str, Any]:
        from dpo_lab.evaluation.alpaca_eval import write_outputs

        try:
            rows = [Candidates.from_record(record) for record in read_jsonl(answers)]
        except (ValueError, KeyError, TypeError) as error:
            raise RunError(f"{answers} holds no answers with their prompts. Give candidates.jsonl or answers.jsonl.") from error
        path = self.outputs / "alpaca_eval" / self.generator / WRITTEN
        path.parent.mkdir(parents=True, exist_ok=True)
        write_outputs(path, rows, self.generator)
        say(f"outputs {path}  {count_of(len(rows), 'answer')}", f"next    alpaca_eval --model_outputs {path}")
        return {"answers": len(rows)}

    def _read(self) -> dict[str, Any]:
        from dpo_lab.evaluation.alpaca_eval import alpaca_eval, annotations_in, difficulties_in

        assert self.annotations
        found = alpaca_eval(
            annotations_in(self.annotations),
            difficulties_in(self.difficulties) if self.difficulties else None,
            [annotations_in(variant) for variant in self.variants],
            inverse_penalty=self.inverse_penalty or math.inf,
        )
        say(
            line("win rate", found["win_rate"], found["standard_error"]),
            line("length-controlled win rate", found["length_controlled_winrate"], found["lc_standard_error"]),
            f"  {count_of(found['n_total'], 'instruction')}, {found['avg_length']} characters on average",
        )
        if not self.variants:
            say("  without variants=[...] (the baseline's verbose and concise answers) published values differ by about 1 point")
        return found
