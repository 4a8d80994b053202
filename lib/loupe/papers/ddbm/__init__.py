"""Denoising Diffusion Bridge Models (Zhou, Lou, Khanna and Ermon 2024).

``config`` holds the presets, ``experiments`` what is run, ``claims`` what is judged, ``figures`` what is drawn, and
``numbers`` what paragraphs say in numbers.
"""

from loupe.papers import PAPERS
from loupe.papers.ddbm.claims import CLAIMS
from loupe.papers.ddbm.config import PRESETS, Config
from loupe.papers.ddbm.experiments import affine_networks, identities, toy_networks, toys
from loupe.papers.ddbm.experiments_images import (
    edges,
    edm_with_source,
    fewer_calls,
    i2sb,
    large_flow,
    large_regression,
    large_vp,
    photos_from_blocks,
    photos_from_edges,
    rectified_flow,
    regression,
    shuffled,
    simple,
    source_withheld,
    spreads,
    trivial,
    unconditional,
    ve,
    vp,
)
from loupe.papers.ddbm.numbers import numbers

PAPER = PAPERS["ddbm"]

# What is computed first where time is short; those in brackets take turns seed by seed, the rest follows.
PRIORITY = (
    "identities", "toys", "trivial", "spreads", ("vp", "regression", "rectified_flow", "i2sb", "ve"), "edges",
    "affine_networks", "toy_networks", "fewer_calls", ("simple", "shuffled", "source_withheld", "edm_with_source"),
    "unconditional", "large_vp", "large_regression", "large_flow", "photos_from_blocks", "photos_from_edges",
)  # fmt: skip

__all__ = [
    "CLAIMS", "PAPER", "PRESETS", "PRIORITY", "Config", "affine_networks", "edges", "edm_with_source", "fewer_calls",
    "i2sb", "identities", "large_flow", "large_regression", "large_vp", "numbers", "photos_from_blocks",
    "photos_from_edges", "rectified_flow", "regression", "shuffled", "simple", "source_withheld", "spreads",
    "toy_networks", "toys", "trivial", "unconditional", "ve", "vp",
]  # fmt: skip
