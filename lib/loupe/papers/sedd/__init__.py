"""Discrete Diffusion Modeling by Estimating the Ratios of the Data Distribution (Lou, Meng and Ermon 2024).

``config`` holds the presets, ``experiments`` what is run, ``claims`` what is judged, ``figures`` what is drawn, and
``numbers`` what paragraphs say in numbers.
"""

from loupe.papers import PAPERS
from loupe.papers.sedd.claims import CLAIMS
from loupe.papers.sedd.config import PRESETS, Config
from loupe.papers.sedd.experiments import identities, oracle_samplers

# isort: off
from loupe.papers.sedd.experiments_networks import (
    autoregressive, concrete_score, constant_noise, counted, counted_infilling, d3pm, infilling, judge, judged, long_absorb,
    long_autoregressive, mdlm, network, samples_absorb, samples_autoregressive, samples_time_free, samples_uniform,
    sedd_absorb, sedd_uniform, time_free,
)  # fmt: skip

# isort: on
from loupe.papers.sedd.numbers import numbers

PAPER = PAPERS["sedd"]

# What is computed first where time is short; those in brackets take turns seed by seed, the rest follows.
PRIORITY = (
    "counted", (
        "sedd_absorb", "autoregressive", "sedd_uniform", "mdlm", "d3pm", "judge", "time_free", "samples_absorb",
        "samples_uniform", "samples_autoregressive", "samples_time_free", "judged", "infilling",
    ),
    "counted_infilling", "identities", "oracle_samplers", ("constant_noise", "concrete_score"),
    "long_absorb", "long_autoregressive",
)  # fmt: skip

__all__ = [
    "CLAIMS", "PAPER", "PRESETS", "PRIORITY", "Config", "autoregressive", "concrete_score", "constant_noise", "counted",
    "counted_infilling", "d3pm", "identities", "infilling", "judge", "judged", "long_absorb", "long_autoregressive",
    "mdlm", "network", "numbers", "oracle_samplers", "samples_absorb", "samples_autoregressive", "samples_time_free",
    "samples_uniform", "sedd_absorb", "sedd_uniform", "time_free",
]  # fmt: skip
