"""Small interactive pictures: a still image that works alone, and a script that animates it."""

from loupe.plotting.widgets.filtration import filtration_slider
from loupe.plotting.widgets.folding import folding_kernel
from loupe.plotting.widgets.frames import Frame, Strip, frame_player, picture_chooser
from loupe.plotting.widgets.poincare import poincare_disk
from loupe.plotting.widgets.reverse_path import reverse_path, reverse_path_thumbnail
from loupe.plotting.widgets.trajectories import trajectory_view

__all__ = [
    "Frame",
    "Strip",
    "filtration_slider",
    "folding_kernel",
    "frame_player",
    "picture_chooser",
    "poincare_disk",
    "reverse_path",
    "reverse_path_thumbnail",
    "trajectory_view",
]
