"""Training: one loop for all networks, and recording of trajectories."""

from loupe.deprecation import renamed_names
from loupe.training.averaging import MovingAverage
from loupe.training.batches import Batches
from loupe.training.divergence import DivergenceError
from loupe.training.evaluation import History, accuracy, evaluating, log_spaced, logits_of, losses_at
from loupe.training.loop import Run, fit
from loupe.training.recipe import Trained, Training, train
from loupe.training.schedules import cosine, linear, step_decay, warmup
from loupe.training.trajectory import TrajectoryRecorder, flat_parameters, set_parameters

__all__ = [
    "Batches",
    "DivergenceError",
    "History",
    "MovingAverage",
    "Run",
    "Trained",
    "Training",
    "TrajectoryRecorder",
    "accuracy",
    "cosine",
    "evaluating",
    "fit",
    "flat_parameters",
    "linear",
    "log_spaced",
    "logits_of",
    "losses_at",
    "set_parameters",
    "step_decay",
    "train",
    "warmup",
]

__getattr__ = renamed_names(__name__, staircase="step_decay")
