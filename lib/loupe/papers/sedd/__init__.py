"""Discrete Diffusion Modeling by Estimating the Ratios of the Data Distribution (Lou, Meng and Ermon 2024).

``config`` holds the presets, ``experiments`` what is run, ``claims`` what is judged, ``figures`` what is drawn.
"""

from loupe.papers import PAPERS
from loupe.papers.sedd.claims import CLAIMS
from loupe.papers.sedd.config import PRESETS, Config
from loupe.papers.sedd.experiments import identities, oracle_samplers
from loupe.papers.sedd.experiments_counted import counted
from loupe.papers.sedd.experiments_text import (
    autoregressive,
    concrete_score,
    d3pm,
    mdlm,
    sedd_absorb,
    sedd_uniform,
    time_free,
)

PAPER = PAPERS["sedd"]

# What is computed first where time is short; the rest follows.
PRIORITY = ("sedd_absorb", "autoregressive", "sedd_uniform", "time_free", "mdlm", "d3pm")

__all__ = [
    "CLAIMS",
    "PAPER",
    "PRESETS",
    "PRIORITY",
    "Config",
    "autoregressive",
    "concrete_score",
    "counted",
    "d3pm",
    "identities",
    "mdlm",
    "oracle_samplers",
    "sedd_absorb",
    "sedd_uniform",
    "time_free",
]
