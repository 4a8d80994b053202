"""Scaling Riemannian Diffusion Models (Lou, Xu, Farris and Ermon 2023).

``config`` holds the presets, ``experiments`` what is run, ``claims`` what is judged, ``figures`` what is drawn, and
``numbers`` what paragraphs say in numbers.
"""

from loupe.papers import PAPERS
from loupe.papers.riemannian_diffusion.claims import CLAIMS
from loupe.papers.riemannian_diffusion.config import PRESETS, Config
from loupe.papers.riemannian_diffusion.experiments import estimators, identities, samplers
from loupe.papers.riemannian_diffusion.experiments_groups import lattice, outliers, site
from loupe.papers.riemannian_diffusion.experiments_networks import (
    all_sets,
    combined,
    series,
    sliced_matching,
    spheres,
    synthetic,
    trivial,
    varadhan,
)
from loupe.papers.riemannian_diffusion.numbers import numbers

PAPER = PAPERS["riemannian_diffusion"]

# What is computed first where time is short; those in brackets take turns seed by seed, the rest follows.
PRIORITY = (
    "identities", "estimators", "samplers", "trivial", ("combined", "varadhan", "series", "sliced_matching"), "spheres",
    ("site", "lattice"), "outliers", "all_sets", "synthetic",
)  # fmt: skip

__all__ = [
    "CLAIMS", "PAPER", "PRESETS", "PRIORITY", "Config", "all_sets", "combined", "estimators", "identities", "lattice",
    "numbers", "outliers", "samplers", "series", "site", "sliced_matching", "spheres", "synthetic", "trivial", "varadhan",
]  # fmt: skip
