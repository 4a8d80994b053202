"""Denoising Diffusion Bridge Models (Zhou, Lou, Khanna and Ermon 2024).

``config`` holds the presets, ``experiments`` what is run, ``claims`` what is judged, ``figures`` what is drawn, and
``numbers`` what paragraphs say in numbers.
"""

from loupe.papers import PAPERS
from loupe.papers.ddbm.claims import CLAIMS
from loupe.papers.ddbm.config import PRESETS, Config
from loupe.papers.ddbm.experiments import identities, toy_networks, toys
from loupe.papers.ddbm.experiments_images import (
    edges,
    edm_with_source,
    i2sb,
    large_flow,
    large_regression,
    large_vp,
    rectified_flow,
    regression,
    shuffled,
    simple,
    source_withheld,
    trivial,
    unconditional,
    ve,
    vp,
)
from loupe.papers.ddbm.numbers import numbers

PAPER = PAPERS["ddbm"]

# What is computed first where time is short; those in brackets take turns seed by seed, the rest follows.
PRIORITY = (
    "identities", "toys", "trivial", ("vp", "regression", "rectified_flow", "i2sb", "ve"), "edges", "toy_networks",
    ("simple", "shuffled", "source_withheld", "edm_with_source"), "unconditional", "large_vp", "large_regression",
    "large_flow",
)  # fmt: skip

__all__ = [
    "CLAIMS", "PAPER", "PRESETS", "PRIORITY", "Config", "edges", "edm_with_source", "i2sb", "identities", "large_flow",
    "large_regression", "large_vp", "numbers", "rectified_flow", "regression", "shuffled", "simple", "source_withheld",
    "toy_networks", "toys", "trivial", "unconditional", "ve", "vp",
]  # fmt: skip
