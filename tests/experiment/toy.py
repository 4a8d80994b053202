"""A chapter that computes in milliseconds, shaped like the real ones."""

import types

import numpy as np
from pydantic import Field

from loupe.experiment import Claim, Measure, Preset, at_most, experiment
from loupe.papers import PAPERS


class Config(Preset):
    seeds: tuple[int, ...] = Field((0, 1, 2), min_length=1)
    """seeds of the repetitions"""

    steps: int = Field(100, ge=1)
    """steps of the walk"""

    scale: float = Field(1.0, gt=0)
    """length of a step"""

    late_seeds: tuple[int, ...] = ()
    """seeds of what is run at paper only"""


@experiment
def walk(config, *, seed, device):
    """A random walk."""
    return {
        "path": np.random.default_rng(seed).normal(size=config.steps).cumsum(),
        "end": float(seed),
        "bad": np.nan,
    }


@experiment
def ruler(config, *, seed, device):
    """Reads another setting than the walk."""
    return {"length": config.scale}


@experiment(seeds="late_seeds")
def late(config, *, seed, device):
    """Not run at every preset."""
    return {"x": 1}


CLAIMS = (
    Claim("T1", "Rulers are as long as they say.", "Sec. 1", "1", "exact", "error at most 0",
          lambda results: [Measure("error", abs(results["ruler"].first["length"] - 1), at_most(0))], ("cpu",)),
    Claim("T2", "Nobody knows.", "Sec. 2", "?", "reported", "none", reason="needs a telescope"),
)  # fmt: skip
PRESETS = {"paper": Config(), "cpu": Config(steps=10), "smoke": Config(steps=2, seeds=(0,))}
ROOM = types.SimpleNamespace(
    __name__=__name__,
    PAPER=PAPERS["ph_dimension"],
    PRESETS=PRESETS,
    CLAIMS=CLAIMS,
    walk=walk,
    ruler=ruler,
    late=late,
)
