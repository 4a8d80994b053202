"""Systems of particles that move: how they are simulated, and networks that foresee where they go.

After Xu et al., Equivariant Graph Neural Operator for Modeling 3D Dynamics, 2024.
"""

from loupe.dynamics.neural_operator import (
    EGNN,
    EGNO,
    Linear,
    MessagePassing,
    RadialField,
    SequentialEGNN,
    TemporalConvolution,
    input_features,
    rollout,
    time_embedding,
)
from loupe.dynamics.simulators import (
    draw_charged,
    draw_gravity,
    draw_springs,
    last_frames,
    simulate_charged,
    simulate_gravity,
    simulate_springs,
    uniform_frames,
)
from loupe.dynamics.windows import Windows, charged_windows, molecule_windows, motion_windows, walk_starts

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
    "molecule_windows",
    "motion_windows",
    "rollout",
    "simulate_charged",
    "simulate_gravity",
    "simulate_springs",
    "time_embedding",
    "uniform_frames",
    "walk_starts",
]
