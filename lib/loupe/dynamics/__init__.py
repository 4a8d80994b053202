"""Particle systems: simulators, and networks that predict trajectories.

After Xu et al., Equivariant Graph Neural Operator for Modeling 3D Dynamics, 2024.
"""

from loupe.dynamics.baselines import Linear, MessagePassing, RadialField, SequentialEGNN, rollout
from loupe.dynamics.egno import EGNN, EGNO
from loupe.dynamics.neural_operator import load_network, save_network
from loupe.dynamics.simulators import (
    draw_charged,
    draw_gravity,
    draw_springs,
    simulate_charged,
    simulate_gravity,
    simulate_springs,
)
from loupe.dynamics.states import input_features
from loupe.dynamics.temporal import TemporalConvolution, time_embedding
from loupe.dynamics.trajectories import Windows, last_frames, path_windows, uniform_frames
from loupe.dynamics.windows import charged_windows, molecule_windows, motion_windows, walk_starts

__all__ = [
    "EGNN",
    "EGNO",
    "Linear",
    "MessagePassing",
    "RadialField",
    "SequentialEGNN",
    "TemporalConvolution",
    "Windows",
    "charged_windows",
    "draw_charged",
    "draw_gravity",
    "draw_springs",
    "input_features",
    "last_frames",
    "load_network",
    "molecule_windows",
    "motion_windows",
    "path_windows",
    "rollout",
    "save_network",
    "simulate_charged",
    "simulate_gravity",
    "simulate_springs",
    "time_embedding",
    "uniform_frames",
    "walk_starts",
]
