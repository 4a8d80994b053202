"""Statistics that several papers judge their measures by."""

from loupe.metrics.rank_correlation import (
    Correlation,
    GranulatedCorrelation,
    bootstrap_kendall,
    granulated_kendall,
    kendall,
    partial_kendall,
    permutation_test,
)

__all__ = [
    "Correlation",
    "GranulatedCorrelation",
    "bootstrap_kendall",
    "granulated_kendall",
    "kendall",
    "partial_kendall",
    "permutation_test",
]
