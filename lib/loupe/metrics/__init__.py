"""Metrics and statistics that several chapters use."""

from loupe.metrics.images import (
    class_score,
    energy_distance,
    frechet_distance,
    inception_scores,
    sliced_wasserstein,
)
from loupe.metrics.importance import effective_sample_size
from loupe.metrics.mauve import divergence_area, mauve27
from loupe.metrics.ngram_filling import ngram_infill
from loupe.metrics.ngrams import NGramJudge
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
    "class_score",
    "divergence_area",
    "effective_sample_size",
    "energy_distance",
    "frechet_distance",
    "granulated_kendall",
    "inception_scores",
    "kendall",
    "loglog_fit",
    "mauve27",
    "ngram_infill",
    "partial_kendall",
    "permutation_test",
    "sliced_wasserstein",
    "token_entropies",
    "unigram_entropy",
]
