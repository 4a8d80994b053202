"""Differentiating through the Fréchet Mean (Lou et al. 2020).

``config`` has the presets, ``experiments`` the runs, ``claims`` the verdicts, ``figures`` the figures and tables, and
``numbers`` the numbers in the text.
"""

from loupe.papers import PAPERS
from loupe.papers.frechet_mean.claims import CLAIMS
from loupe.papers.frechet_mean.config import PRESETS, Config
from loupe.papers.frechet_mean.experiments import (
    hyperbolicity,
    identities,
    shortcuts,
    solver_study,
    three_points,
)
from loupe.papers.frechet_mean.experiments_graphs import (
    airport_links,
    batch_norm,
    cora_links,
    disease_links,
    feature_sizes,
    pubmed_links,
    without_position,
)
from loupe.papers.frechet_mean.numbers import numbers

PAPER = PAPERS["frechet_mean"]

# What is computed first where time is short; the rest follows.
PRIORITY = (
    "disease_links", "cora_links", "batch_norm", "without_position", "airport_links", "pubmed_links"
)  # fmt: skip

__all__ = [
    "CLAIMS", "PAPER", "PRESETS", "PRIORITY", "Config", "airport_links", "batch_norm", "cora_links", "disease_links",
    "feature_sizes", "hyperbolicity", "identities", "numbers", "pubmed_links", "shortcuts",
    "solver_study", "three_points", "without_position",
]  # fmt: skip
