"""Intrinsic Dimension, Persistent Homology and Generalization in Neural Networks (Birdal et al. 2021).

``config`` holds the presets, ``experiments`` what is run, ``claims`` what is judged, ``figures`` what is drawn and
``numbers`` what the paragraphs say in numbers.
"""

from loupe.papers import PAPERS
from loupe.papers.ph_dimension.claims import CLAIMS
from loupe.papers.ph_dimension.config import PRESETS, Config
from loupe.papers.ph_dimension.experiments import (
    diffusion_processes,
    exhausted_paths,
    identities,
    known_dimensions,
    noise_of_one_draw,
)
from loupe.papers.ph_dimension.experiments_networks import (
    adversarial_start,
    fixed_order,
    gap_grid,
    regularised,
    training_path,
)
from loupe.papers.ph_dimension.numbers import numbers

PAPER = PAPERS["ph_dimension"]

# What is computed first where time is short; the rest follows.
PRIORITY = (
    "known_dimensions", "gap_grid", "diffusion_processes", "training_path", "adversarial_start", "regularised",
)  # fmt: skip

__all__ = [
    "CLAIMS", "PAPER", "PRESETS", "PRIORITY", "Config", "adversarial_start", "diffusion_processes", "exhausted_paths",
    "fixed_order", "gap_grid", "identities", "known_dimensions", "noise_of_one_draw", "numbers", "regularised",
    "training_path",
]  # fmt: skip
