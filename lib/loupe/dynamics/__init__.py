"""Systems of particles that move: how they are simulated, and networks that foresee where they go."""

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

__all__ = [
    "draw_charged",
    "draw_gravity",
    "draw_springs",
    "last_frames",
    "simulate_charged",
    "simulate_gravity",
    "simulate_springs",
    "uniform_frames",
]
