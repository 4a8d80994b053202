"""Trajectories of interacting points in one pass: the equivariant graph neural operator and what it is compared with.

After Xu, Han, Lou, Kossaifi, Ramanathan, Azizzadenesheli, Leskovec, Ermon and Anandkumar, Equivariant Graph Neural
Operator for Modeling 3D Dynamics, 2024.

A window of the future is cut at P times. All networks take the state now, positions and velocities ``[n, D]``, and
return positions ``[P, n, D]`` at these times; those that know the end only have P = 1.
"""

from loupe.dynamics.baselines import Linear, MessagePassing, RadialField, SequentialEGNN, rollout
from loupe.dynamics.egno import EGNN, EGNO
from loupe.dynamics.states import Dynamics, States, input_features
from loupe.dynamics.temporal import TemporalConvolution, dft_matrices, time_embedding, window_times

__all__ = [
    "EGNN",
    "EGNO",
    "Dynamics",
    "Linear",
    "MessagePassing",
    "RadialField",
    "SequentialEGNN",
    "States",
    "TemporalConvolution",
    "dft_matrices",
    "input_features",
    "rollout",
    "time_embedding",
    "window_times",
]
