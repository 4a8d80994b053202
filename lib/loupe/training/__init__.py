"""Training networks, and recording where training goes."""

from loupe.training.trajectory import TrajectoryRecorder, flat_parameters

__all__ = ["TrajectoryRecorder", "flat_parameters"]
