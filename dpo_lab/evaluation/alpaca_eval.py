"""AlpacaEval 2: its files of outputs and annotations, its raw and its length-controlled win rate."""

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from dpo_lab.amounts import count_of
from dpo_lab.components import RunError
from dpo_lab.durable_files import write_durably
from dpo_lab.evaluation.length_control import Gamed, LengthControlled, length_controlled, length_feature
from dpo_lab.evaluation.statistics.observed import Numbers
from dpo_lab.records import Candidates

OLD_TIE = 0.0  # an older code of the annotators for a draw
GAMED_WEIGHT = 0.2  # of the baseline's variants together; each row has that over the number of variants


@dataclass(frozen=True, kw_only=True)
class Annotation:
    """What a judge says of a model's output beside the baseline's."""

    instruction: str
    outcome: float
    """From 0, the baseline wins, to 1, the model wins."""
    output_chars: int
    baseline_chars: int


def write_outputs(path: Path, answers: Iterable[Candidates], generator: str) -> None:
    """Write the first answer to each prompt as AlpacaEval's model_outputs.json: instruction, output, generator."""
    rows = [{"instruction": answer.prompt.text, "output": answer.responses[0], "generator": generator} for answer in answers]
    write_durably(path, json.dumps(rows, ensure_ascii=False, indent=1))


def annotations_in(path: Path) -> list[Annotation]:
    """Return the annotations of AlpacaEval's annotations.json: output_1 is the baseline's, output_2 the model's.

    Rows without a preference, which the judge did not answer, are left out.

    Raises:
        RunError: naming file and row, if it is another kind of file.
    """
    annotations, seen = list[Annotation](), dict[str, int]()
    for number, row in enumerate(_rows_of(path), start=1):
        lacking = [name for name in ("instruction", "output_1", "output_2", "preference") if name not in row]
        if lacking:
            raise RunError(
                f"{path} row {number}: no {lacking[0]!r}. Give the annotations.json that alpaca_eval writes, with instruction, "
                "output_1 (the baseline's), output_2 (the model's) and preference."
            )
        if (outcome := _outcome(row["preference"], path, number)) is None:
            continue
        instruction = str(row["instruction"])
        if instruction in seen:
            raise RunError(f"{path} row {number}: the instruction of row {seen[instruction]} again; leave one of them out.")
        seen[instruction] = number
        chars = {"output_chars": len(str(row["output_2"])), "baseline_chars": len(str(row["output_1"]))}
        annotations.append(Annotation(instruction=instruction, outcome=outcome, **chars))
    if not annotations:
        raise RunError(f"{path}: no row has a preference, so there is no win rate. Annotate the outputs again.")
    return annotations


def difficulties_in(path: Path) -> dict[str, float]:
    """Return the difficulty of each instruction: a JSON list of rows with `instruction` and `difficulty`, on the logit scale.

    Raises:
        RunError: naming file and row, if it is another kind of file.
    """
    found = {}
    for number, row in enumerate(_rows_of(path), start=1):
        value = row.get("difficulty")
        if "instruction" not in row or not isinstance(value, int | float) or not math.isfinite(value):
            raise RunError(f"{path} row {number}: give every row an 'instruction' and a number as its 'difficulty'.")
        found[str(row["instruction"])] = float(value)
    return found


def raw_win_rate(outcomes: Sequence[float], output_chars: Sequence[int]) -> dict[str, float]:
    """Return AlpacaEval's figures without length control, in per cent.

    >>> raw_win_rate([1.0, 0.75, 0.5, 0.0], [10, 20, 30, 41])["win_rate"]
    56.25
    """
    values = np.asarray(outcomes, dtype=np.float64)
    wins, draws = int((values > 0.5).sum()), int((values == 0.5).sum())
    return {
        "win_rate": float(100 * values.mean()),
        "standard_error": float(100 * values.std(ddof=1) / math.sqrt(len(values))) if len(values) > 1 else 0.0,
        "n_wins": wins,
        "n_wins_base": len(values) - wins - draws,
        "n_draws": draws,
        "n_total": len(values),
        "discrete_win_rate": 100 * (wins + draws / 2) / len(values),
        "avg_length": sum(output_chars) // len(output_chars),
    }


def alpaca_eval(
    annotations: Sequence[Annotation],
    difficulties: Mapping[str, float] | None = None,
    variants: Sequence[Sequence[Annotation]] = (),
    *,
    inverse_penalty: float = math.inf,
) -> dict[str, Any]:
    """Return raw and length-controlled win rate of a model, in per cent, with the weights of the fit.

    Difficulties are joined by instruction. (alpaca_eval itself looks them up by position after it has dropped rows that lack a
    preference, so that every row after a gap has another instruction's.)

    Args:
        difficulties: by instruction; None leaves them out of the model.
        variants: annotations of the baseline's own verbose and concise variants, AlpacaEval's regulariser.
        inverse_penalty: C of the L1 penalty; infinite: none.

    Raises:
        RunError: if an instruction has no difficulty.
    """
    gamed = gamed_rows([list(variant) for variant in variants], difficulties) if variants else None
    fitted = length_controlled(
        np.array([annotation.outcome for annotation in annotations]),
        np.array([float(annotation.baseline_chars - annotation.output_chars) for annotation in annotations]),
        None if difficulties is None else joined(annotations, difficulties),
        gamed=gamed,
        inverse_penalty=inverse_penalty,
    )
    raw = raw_win_rate(
        [annotation.outcome for annotation in annotations], [annotation.output_chars for annotation in annotations]
    )
    return {**raw, **in_per_cent(fitted)}


def in_per_cent(fitted: LengthControlled) -> dict[str, Any]:
    """Return a fit under AlpacaEval's names."""
    return {
        "length_controlled_winrate": 100 * fitted.win_rate,
        "lc_standard_error": 100 * fitted.standard_error,
        "weights": fitted.weights,
    }


def joined(annotations: Sequence[Annotation], difficulties: Mapping[str, float]) -> Numbers:
    """Return the difficulty of each annotation's instruction, by its text; RunError if one has none."""
    missing = [annotation.instruction for annotation in annotations if annotation.instruction not in difficulties]
    if missing:
        raise RunError(
            f"{count_of(len(missing), 'instruction')} of {len(annotations)} without difficulty, the first {missing[0][:60]!r}. "
            "Give the difficulties of the instructions that were annotated, or none."
        )
    return np.array([difficulties[annotation.instruction] for annotation in annotations])


def gamed_rows(variants: Sequence[Sequence[Annotation]], difficulties: Mapping[str, float] | None) -> Gamed:
    """Return the regulariser's rows, each variant with its own length feature."""
    differences = [np.array([float(row.baseline_chars - row.output_chars) for row in rows]) for rows in variants]
    length = np.concatenate([length_feature(difference) for difference in differences])
    every = [row for rows in variants for row in rows]
    outcomes = np.array([annotation.outcome for annotation in every])
    difficulty = joined(every, difficulties) if difficulties is not None else np.zeros(len(every))
    return Gamed(
        length=length,
        difficulty=difficulty,
        weight=GAMED_WEIGHT / len(variants),
        sum_length=float(outcomes @ length),
        sum_difficulty=float(outcomes @ difficulty),
    )


def outcome_of(preference: float) -> float:
    """Return the outcome of a preference from 1, the baseline wins, to 2, the model wins; 0 is an old code for a draw.

    >>> outcome_of(1.75), outcome_of(0.0)
    (0.75, 0.5)
    """
    return 0.5 if preference == OLD_TIE else preference - 1.0


def _outcome(preference: Any, path: Path, number: int) -> float | None:
    if preference is None or (isinstance(preference, float) and math.isnan(preference)):
        return None
    if not isinstance(preference, int | float) or not (preference == OLD_TIE or 1 <= preference <= 2):
        raise RunError(
            f"{path} row {number}: preference {preference!r} is not a number from 1 (the baseline wins) to 2 (the model wins)."
        )
    return outcome_of(float(preference))


def _rows_of(path: Path) -> list[dict[str, Any]]:
    try:
        rows = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise RunError(f"{path}: no such file (in {Path.cwd()}).") from error
    except ValueError as error:
        raise RunError(f"{path} is not JSON ({error}). Give a list of rows in [ ].") from error
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise RunError(f"{path} is not a list of rows. Give a JSON list of objects.")
    return rows
