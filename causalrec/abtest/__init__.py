"""A/B tests from aggregates: check the split, then compare the arms."""

from causalrec.abtest.checks import assignment_counts, sample_ratio_test
from causalrec.abtest.inference import compare_arms, fieller_ratio, two_proportion_test, welch_test

__all__ = [
    "assignment_counts",
    "compare_arms",
    "fieller_ratio",
    "sample_ratio_test",
    "two_proportion_test",
    "welch_test",
]
