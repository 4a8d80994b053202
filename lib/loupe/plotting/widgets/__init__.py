"""Small interactive pictures: a still that tells the story, and a script that lets it move when asked."""

from loupe.plotting.widgets.filtration import FiltrationSlider, filtration_slider
from loupe.plotting.widgets.folding import FoldingKernel, folding_kernel
from loupe.plotting.widgets.poincare import PoincareDisk, poincare_disk
from loupe.plotting.widgets.reverse_path import ReversePath, reverse_path
from loupe.plotting.widgets.trajectories import TrajectoryView, trajectory_view

__all__ = [
    "FiltrationSlider",
    "FoldingKernel",
    "PoincareDisk",
    "ReversePath",
    "TrajectoryView",
    "filtration_slider",
    "folding_kernel",
    "poincare_disk",
    "reverse_path",
    "trajectory_view",
]
