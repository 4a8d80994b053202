"""Reflected Diffusion Models (Lou and Ermon 2023).

``config`` holds the presets, ``experiments`` what is run, ``claims`` what is judged, ``figures`` what is drawn and
``numbers`` what the paragraphs say in numbers.
"""

from loupe.papers import PAPERS
from loupe.papers.reflected_diffusion.claims import CLAIMS
from loupe.papers.reflected_diffusion.config import PRESETS, Config
from loupe.papers.reflected_diffusion.experiments import identities, thresholding
from loupe.papers.reflected_diffusion.experiments_images import (
    image_bound,
    images_exploding,
    images_reflected,
)
from loupe.papers.reflected_diffusion.experiments_toys import (
    grey_bound,
    simplex,
    toys_exploding,
    toys_logit,
    toys_reflected,
)
from loupe.papers.reflected_diffusion.numbers import numbers

PAPER = PAPERS["reflected_diffusion"]

# What is computed first where time is short; the rest follows.
PRIORITY = (
    "images_reflected", "images_exploding", "toys_reflected", "toys_exploding", "toys_logit", "simplex",
)  # fmt: skip

__all__ = [
    "CLAIMS", "PAPER", "PRESETS", "PRIORITY", "Config", "grey_bound", "identities", "image_bound", "images_exploding",
    "images_reflected", "numbers", "simplex", "thresholding", "toys_exploding", "toys_logit", "toys_reflected",
]  # fmt: skip
