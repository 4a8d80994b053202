"""Statistics that several papers judge their measures by."""

from loupe.metrics.mauve import divergence_area, mauve27
from loupe.metrics.rank_correlation import (
    Correlation,
    GranulatedCorrelation,
    bootstrap_kendall,
    granulated_kendall,
    kendall,
    partial_kendall,
    permutation_test,
)
from loupe.metrics.text import (
    NGramJudge,
    bigram_distribution,
    bigram_rate_entropy,
    bigram_total_variation,
    loglog_fit,
    token_entropies,
    unigram_entropy,
)

__all__ = [
    "Correlation",
    "GranulatedCorrelation",
    "NGramJudge",
    "bigram_distribution",
    "bigram_rate_entropy",
    "bigram_total_variation",
    "bootstrap_kendall",
    "divergence_area",
    "granulated_kendall",
    "kendall",
    "loglog_fit",
    "mauve27",
    "partial_kendall",
    "permutation_test",
    "token_entropies",
    "unigram_entropy",
]
