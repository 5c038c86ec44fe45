"""Means over pairs are exact for ragged batches."""

import torch

from dpo_lab.evaluation.pair_figures import pair_figures
from dpo_lab.figures import TRAINING
from dpo_lab.metrics import MeanOverItems
from dpo_lab.scoring.logps import pair_logps


def test_five_pairs_in_batches_of_four_give_the_figures_of_one_batch() -> None:
    margins = torch.tensor([1.0, 2.0, -1.0, -1.0, -1.0])
    mean = MeanOverItems()
    for part in margins.split(4):
        mean.update({"margin": part, "accuracy": (part > 0).double()})
    # means of batch means would be -0.375 and 0.25
    assert mean.compute() == {"margin": 0.0, "accuracy": 0.4}


def test_every_figure_has_a_meaning_and_a_tie_counts_wrong_or_half() -> None:
    reference = pair_logps([0.0, 0.0, 0.0], [0.0, 0.0, 0.0])
    figures = pair_figures(pair_logps([1.0, 0.0, -1.0], [0.0, 0.0, 0.0]), reference, torch.zeros(3), beta=2.0)
    of_steps = ["lr", "grad_norm", "fp16/loss_scale", "fp16/skipped_steps"]
    of_speed = ["time/pairs_per_second", "time/tokens_per_second", "time/tflops_per_second", "memory/peak_mib"]
    assert [*figures, *of_steps, *of_speed] == [each.name for each in TRAINING]
    assert figures["rewards/accuracies"].tolist() == [1.0, 0.0, 0.0]
    assert figures["rewards/accuracies_ties_half"].tolist() == [1.0, 0.5, 0.0]
    assert figures["rewards/margins"].tolist() == [2.0, 0.0, -2.0]


def test_what_rounding_leaves_of_a_difference_counts_half_where_ties_do_and_what_training_moves_does_not() -> None:
    reference = pair_logps([-60.0, -60.0, -60.0], [-40.0, -40.0, -40.0])
    policy = pair_logps([-60.000004, -60.001, -59.999], [-40.0, -40.0, -40.0])  # 60.000004 is the next float32
    figures = pair_figures(policy, reference, torch.zeros(3), beta=0.1)
    assert figures["rewards/accuracies"].tolist() == [0.0, 0.0, 1.0]
    assert figures["rewards/accuracies_ties_half"].tolist() == [0.5, 0.0, 1.0]


def test_lengths_per_token_log_probs_and_drift_by_hand() -> None:
    policy, reference = pair_logps(-6.0, -8.0, tokens=(3, 2)), pair_logps(-5.0, -4.0, tokens=(3, 2))
    figures = pair_figures(policy, reference, torch.zeros(1), beta=0.5)
    assert (figures["lengths/chosen"].item(), figures["lengths/rejected"].item()) == (3, 2)
    assert (figures["logps/chosen_per_token"].item(), figures["logps/rejected_per_token"].item()) == (-2.0, -4.0)
    assert figures["kl/implicit"].item() == -2.5  # (-1 - 4) / 2
    assert figures["rewards/margins"].item() == 1.5  # 0.5 * (-1 - -4)
