"""Scaling Riemannian Diffusion Models (Lou, Xu, Farris and Ermon 2023).

``config`` holds the presets, ``experiments`` what is run, ``claims`` what is judged, ``figures`` what is drawn, and
``numbers`` what paragraphs say in numbers.
"""

from loupe.papers import PAPERS
from loupe.papers.riemannian_diffusion.claims import CLAIMS
from loupe.papers.riemannian_diffusion.config import PRESETS, Config
from loupe.papers.riemannian_diffusion.experiments import identities
from loupe.papers.riemannian_diffusion.experiments_groups import lattice, outliers, site

PAPER = PAPERS["riemannian_diffusion"]

# What is computed first where time is short; the rest follows.
PRIORITY = ("identities", ("site", "outliers"), "lattice")

__all__ = ["CLAIMS", "PAPER", "PRESETS", "PRIORITY", "Config", "identities", "lattice", "outliers", "site"]
