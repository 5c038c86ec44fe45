"""Statistics of evaluation: estimates with intervals whose unit is the prompt, and comparisons of models on the same prompts.

observed = Observed(values, prompt_ids)            one number per answer or pair
mean_of(observed), share_of(observed)              an Estimate: value, 95 % interval or why there is none
cluster_bootstrap(statistic, prompts, ...)         the same where no formula fits
compare(ours, theirs, "A", "B").sentence()         two models on the same prompts
compare_all({"A": a, "B": b, "C": c})              several, with Holm over the family
"""

from dpo_lab.evaluation.statistics.bootstrap import cluster_bootstrap
from dpo_lab.evaluation.statistics.clustered import mean_of, share_of
from dpo_lab.evaluation.statistics.comparison import Comparison, compare, compare_all
from dpo_lab.evaluation.statistics.estimate import Estimate
from dpo_lab.evaluation.statistics.observed import Observed
from dpo_lab.evaluation.statistics.paired import Difference, difference_of, holm
from dpo_lab.evaluation.statistics.shares import wilson

__all__ = [
    "Comparison",
    "Difference",
    "Estimate",
    "Observed",
    "cluster_bootstrap",
    "compare",
    "compare_all",
    "difference_of",
    "holm",
    "mean_of",
    "share_of",
    "wilson",
]
