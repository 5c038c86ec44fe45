"""The length-controlled win rate: what a judge's wins would be if both models' answers were equally long (Dubois et al. 2024)."""

from dataclasses import dataclass

import numpy as np

from dpo_lab.evaluation.statistics import Estimate, Observed, share_of
from dpo_lab.evaluation.statistics.clustered import clustered_error
from dpo_lab.evaluation.statistics.observed import Numbers
from dpo_lab.evaluation.statistics.students_t import quantile_95

STEPS, HALVINGS = 200, 40
SEPARATED = 1e-6  # smallest eigenvalue of the curvature, in answers: below it a weight runs to infinity
NAMES = ("length", "difficulty", "bias")


@dataclass(frozen=True, kw_only=True)
class Gamed:
    """Rows of the baseline's own verbose and concise variants, which hold the weights of length and difficulty in place.

    AlpacaEval adds them to every fit with a small weight: without them a model that writes at another length than the baseline
    leaves the fit free to explain its losses by length alone.
    """

    length: Numbers
    """tanh of the standardised length difference (`length_feature`), shape (rows,)."""
    difficulty: Numbers
    """Of each row's instruction, shape (rows,)."""
    weight: float
    """Of each row; a row of the model has 1."""
    sum_length: float
    """Sum over rows of outcome times length: the fit needs no more of the outcomes than this sum and the next."""
    sum_difficulty: float


@dataclass(frozen=True, kw_only=True)
class LengthControlled:
    """A fitted length-controlled win rate."""

    win_rate: float
    """From 0 to 1: the mean over instructions of the win probability at equal length."""
    standard_error: float
    """Of that mean as AlpacaEval writes it: sd / sqrt(n) of the probabilities, the fit taken as known."""
    weights: dict[str, float]
    """`length` (a bias for longer answers is below 0), `difficulty` where it is known, `bias`."""


def length_feature(difference: Numbers) -> Numbers:
    """Return tanh(difference / its standard deviation); the difference is the baseline's characters minus the model's."""
    spread = difference.std(ddof=1) if len(difference) > 1 else 0.0
    feature: Numbers = np.tanh(difference / spread) if spread > 0 else np.zeros(len(difference))
    return feature


def length_controlled(
    outcomes: Numbers,
    difference: Numbers,
    difficulty: Numbers | None = None,
    *,
    gamed: Gamed | None = None,
    inverse_penalty: float = float("inf"),
) -> LengthControlled:
    """Fit P(win) = sigmoid(length weight * tanh(d / sd) + difficulty weight * difficulty + bias), and set d to 0.

    The loss is a sum over rows: softplus(z) - outcome * z, plus |weights| / C; convex, by proximal Newton steps.

    Args:
        outcomes: of the model against the baseline, from 0 to 1, shape (rows,).
        difference: characters of the baseline's output minus the model's, shape (rows,).
        difficulty: of each row's instruction, on the logit scale; None leaves it out.
        gamed: the baseline's own variants; None leaves them out.
        inverse_penalty: C, which cross-validation chose for AlpacaEval's published values; infinite: no penalty.

    Raises:
        ValueError: without rows.
    """
    if not len(outcomes):
        raise ValueError("no rows: nothing can be fitted.")
    parts = [length_feature(difference), *([] if difficulty is None else [difficulty]), np.ones(len(outcomes))]
    rows, row_weights = np.stack(parts, axis=1), np.ones(len(outcomes))
    towards = rows.T @ outcomes
    if gamed is not None:
        known = [gamed.length, *([] if difficulty is None else [gamed.difficulty]), np.zeros(len(gamed.length))]
        rows = np.concatenate([rows, np.stack(known, axis=1)])
        row_weights = np.concatenate([row_weights, np.full(len(gamed.length), gamed.weight)])
        sums = [gamed.sum_length, *([] if difficulty is None else [gamed.sum_difficulty]), 0.0]
        towards = towards + gamed.weight * np.array(sums)
    fitted = fit(rows, row_weights, towards, 1 / inverse_penalty)
    at_equal_length = rows[: len(outcomes), 1:] @ fitted[1:]
    chances = _sigmoid(at_equal_length)
    error = float(chances.std(ddof=1) / np.sqrt(len(chances))) if len(chances) > 1 else 0.0
    names = NAMES if difficulty is not None else (NAMES[0], NAMES[2])
    weights = dict(zip(names, fitted.tolist(), strict=True))
    return LengthControlled(win_rate=float(chances.mean()), standard_error=error, weights=weights)


def fit(rows: Numbers, row_weights: Numbers, towards: Numbers, penalty: float) -> Numbers:
    """Return the weights w that minimise sum(row_weights * softplus(rows w)) - towards w + penalty |w|, shape (features,)."""

    def loss(weights: Numbers) -> float:
        return float(row_weights @ np.logaddexp(0, rows @ weights) - towards @ weights + penalty * np.abs(weights).sum())

    weights: Numbers = np.zeros(rows.shape[1])
    best = loss(weights)
    for _ in range(STEPS):
        chances = _sigmoid(rows @ weights)
        gradient = rows.T @ (row_weights * chances) - towards
        curvature = (rows * (row_weights * chances * (1 - chances))[:, None]).T @ rows + 1e-10 * np.eye(len(weights))
        step = _proximal_step(weights, gradient, curvature, penalty)
        for _ in range(HALVINGS):
            tried = loss(weights + step)
            if tried <= best:
                break
            step = step / 2
        else:
            return weights
        weights, best = weights + step, tried
        if np.abs(step).max() < 1e-12 * (1 + np.abs(weights).max()):
            return weights
    return weights


def _proximal_step(weights: Numbers, gradient: Numbers, curvature: Numbers, penalty: float) -> Numbers:
    """Return the step that minimises the quadratic model plus the penalty: Newton's own where there is none."""
    step = np.asarray(np.linalg.solve(curvature, -gradient), dtype=np.float64)
    if penalty == 0:
        return step
    target = weights.copy()
    for _ in range(STEPS):
        before = target.copy()
        for at in range(len(target)):
            slope = gradient[at] + curvature[at] @ (target - weights) - curvature[at, at] * target[at]
            target[at] = -np.sign(slope) * max(abs(slope) - penalty, 0) / curvature[at, at]
        if np.abs(target - before).max() < 1e-14 * (1 + np.abs(target).max()):
            break
    return target - weights


def _sigmoid(values: Numbers) -> Numbers:
    chances: Numbers = 0.5 * (1 + np.tanh(values / 2))
    return chances


def controlled_share(wins: Observed, difference: Numbers) -> Estimate:
    """Return the win rate at equal length, with its 95 % interval over prompts, from the outcome of each answer.

    AlpacaEval's model without difficulties, so that the win rate is sigmoid(bias). The interval is that of the bias (clustered
    sandwich, Student's t), turned into shares. Where every answer wins, or every answer loses, length explains nothing.

    Args:
        difference: characters of the other model's answer minus the own one's, shape (answers,).
    """
    outcomes = np.asarray(wins.values, dtype=np.float64)
    plain = share_of(wins)
    if plain.value in (0.0, 1.0):
        return plain
    fitted = length_controlled(outcomes, difference)
    rows = np.stack([length_feature(difference), np.ones(len(outcomes))], axis=1)
    bias = fitted.weights["bias"]
    chances = _sigmoid(rows @ np.array([fitted.weights["length"], bias]))
    curvature = (rows * (chances * (1 - chances))[:, None]).T @ rows
    scores = rows * (outcomes - chances)[:, None]
    grouped = np.stack([Observed(column, wins.prompts).by_prompt.sums for column in scores.T], axis=1)
    prompts = len(grouped)
    value, items = fitted.win_rate, len(outcomes)
    if prompts == 1 or np.linalg.eigvalsh(curvature)[0] < SEPARATED:
        why = "one prompt says nothing about others" if prompts == 1 else "length alone tells wins from losses"
        return Estimate(value=value, prompts=prompts, items=items, why_none=why)
    moved = np.linalg.solve(curvature, grouped.T)[1]  # by how much each prompt moves the bias
    half = quantile_95(prompts - 1) * clustered_error(moved, 1.0)
    low, high = _sigmoid(np.array([bias - half, bias + half]))
    return Estimate(value=value, low=float(low), high=float(high), prompts=prompts, items=items)
