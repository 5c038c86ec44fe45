"""The ranker `function`: a plain Python function of the user's own scores the answers."""

import inspect
import re
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from typing import Any, ClassVar, SupportsFloat

from dpo_lab.components import ConfigError, RunError, component, source_digest
from dpo_lab.hub import innermost
from dpo_lab.ranking.base import Ranker, Verdict, excerpt_of
from dpo_lab.ranking.pairrm.ranker import source_of
from dpo_lab.records import Candidates

Score = Callable[[str, list[str]], Any]


@component
class FunctionRanker(Ranker):
    """Calls `score(prompt, answers)`, which returns one number per answer in their order, or `{answer: number}`."""

    label: ClassVar[str] = "function"
    names_code: ClassVar[tuple[str, ...]] = ("path",)

    path: str
    """MODULE:FUNCTION. A conversation is given as one text, `USER: ...` and `ASSISTANT: ...` line by line."""

    def check(self) -> None:
        """Raise ConfigError if Python finds no such function."""
        self.function()

    def content(self) -> dict[str, Any]:
        """Return what determines the scores: the source of the function's file too."""
        return {**super().content(), "function_source": source_digest(self.function())}

    def rank(self, candidates: Sequence[Candidates]) -> list[Verdict]:
        """Return one verdict per prompt."""
        function = self.function()
        return [Verdict(scores=self._scores(function, candidate)) for candidate in candidates]

    def function(self) -> Score:
        """Return the function; its module is imported.

        Only a module and one name in it are read, so that a path never leads through one module into another.
        """
        module, _, name = self.path.partition(":")
        if not (name.isidentifier() and all(part.isidentifier() for part in module.split("."))):
            written = re.fullmatch(r"(?:\./)?(\w+)(?:\.py)?[:.](\w+)", self.path)  # a file, or a dot for the colon
            meant = f"{written[1]}:{written[2]}" if written and written[2] != "py" else "my_scores:score"
            raise ConfigError(f"path={self.path} is not MODULE:FUNCTION, for instance path={meant}")
        try:
            loaded = import_module(module)
        except Exception as error:  # whatever the module does when it is imported
            raise ConfigError(
                f"path={self.path}: the module {module} cannot be imported ({innermost(error)}). "
                "If its file is in this directory, put PYTHONPATH=. in front of the command."
            ) from error
        function = vars(loaded).get(name)
        if not inspect.isroutine(function):
            what = "holds no function of that name" if function is None else f"has a {type(function).__name__} of that name"
            raise ConfigError(
                f"path={self.path}: {module} {what}. Write one: def {name}(prompt, answers), one number per answer."
            )
        return function

    def _scores(self, function: Score, candidates: Candidates) -> tuple[float, ...]:
        """Return what the function says of one prompt; RunError if it is not a list of numbers."""
        asked = excerpt_of(candidates.prompt)
        try:
            said = function(source_of(candidates.prompt), list(candidates.responses))
            scores = list(said.values() if isinstance(said, Mapping) else said)
        except Exception as error:
            raise RunError(f"ranker.path={self.path} failed for the prompt {asked}: {innermost(error)}.") from error
        for score in scores:
            if not isinstance(score, SupportsFloat) or getattr(score, "ndim", 0) != 0:
                raise RunError(f"ranker.path={self.path} returned {score!r:.60} for the prompt {asked}, which is not a number.")
        if not isinstance(said, Mapping):
            return tuple(map(float, scores))
        if lacking := [text for text in candidates.responses if text not in said]:
            raise RunError(
                f"ranker.path={self.path} returned no score of the answer {lacking[0]!r:.60} to the prompt {asked}. "
                "Return {answer: score} with the answers as they were given, or one number per answer in their order."
            )
        return tuple(float(said[text]) for text in candidates.responses)
