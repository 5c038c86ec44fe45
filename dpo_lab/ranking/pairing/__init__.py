"""Which of the ranked answers become preference pairs: one pairing, or one family of pairings, a file."""

from dpo_lab.ranking.pairing.against_data import Spin
from dpo_lab.ranking.pairing.base import Pairing
from dpo_lab.ranking.pairing.best_against import BestVsRandom, BestVsSecond, BestVsWorst
from dpo_lab.ranking.pairing.several import Adjacent, AllPairs
from dpo_lab.ranking.pairing.whole_lists import AllK

__all__ = ["Adjacent", "AllK", "AllPairs", "BestVsRandom", "BestVsSecond", "BestVsWorst", "Pairing", "Spin"]
