"""Equivariant Graph Neural Operator for Modeling 3D Dynamics (Xu et al. 2024).

``config`` holds the presets, ``experiments`` what is run, ``claims`` what is judged, ``figures`` what is drawn, and
``numbers`` what paragraphs say.
"""

from loupe.papers import PAPERS
from loupe.papers.egno.claims import CLAIMS
from loupe.papers.egno.config import PRESETS, Config
from loupe.papers.egno.experiments import identities, spectra
from loupe.papers.egno.experiments_training import (
    ablations,
    aspirin,
    charged_egnn,
    charged_egno,
    charged_others,
    data_sizes,
    ethanol,
    running,
    walking,
)
from loupe.papers.egno.numbers import numbers

PAPER = PAPERS["egno"]

# What is computed first where time is short; the rest follows.
PRIORITY = (
    "charged_egno", "charged_egnn", "charged_others", "walking", "running", "ethanol", "data_sizes", "ablations", "aspirin",
)  # fmt: skip

__all__ = [
    "CLAIMS", "PAPER", "PRESETS", "PRIORITY", "Config", "ablations", "aspirin", "charged_egnn", "charged_egno",
    "charged_others", "data_sizes", "ethanol", "identities", "numbers", "running", "spectra", "walking",
]  # fmt: skip
