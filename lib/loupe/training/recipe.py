"""One training recipe: settings that a chapter nests in its configuration, and the result of a run."""

import json
import time
from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, Field

from loupe.deprecation import renamed
from loupe.training.averaging import MovingAverage
from loupe.training.batches import Batches
from loupe.training.divergence import DivergenceError
from loupe.training.evaluation import evaluating
from loupe.training.loop import Run, fit
from loupe.training.schedules import cosine, linear, step_decay, warmup

# Lines of a run in its metrics file, not counting evaluations.
LINES = 200


class Training(BaseModel):
    """Training settings. A chapter subclasses this for each kind of network, with the paper's values as defaults.

    Never change a default of this class once results exist: they store only the differences from it.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True, allow_inf_nan=False)

    steps: int = Field(1000, ge=1)
    """steps of the optimizer"""
    batch: int = Field(128, ge=1)
    """samples in a step"""
    accumulate: int = Field(1, ge=1)
    """shards in which a process computes its part of the batch, to save memory"""
    optimizer: Literal["adam", "adamw", "sgd"] = "adam"
    """optimizer; AdamW decays weights apart from the gradient"""
    learning_rate: float = Field(1e-3, gt=0)
    """learning rate, which the schedule multiplies"""
    beta2: float = Field(0.999, ge=0, lt=1)
    """decay of Adam's second moment"""
    weight_decay: float = Field(0.0, ge=0)
    """weight decay"""
    schedule: Literal["constant", "cosine", "linear", "halved"] = "constant"
    """course of the learning rate after the warmup; halved: once, after half of the steps"""
    warmup: int = Field(0, ge=0)
    """steps of linear warmup"""
    cooldown: float = Field(1.0, gt=0, le=1)
    """share of the steps, at the end, in which the linear schedule falls to zero"""
    clip: float | None = Field(None, gt=0)
    """largest norm of the gradient; null clips nothing"""
    ema: float | None = Field(None, ge=0, lt=1)
    """decay of the moving average of the weights that is evaluated and used; null uses the weights themselves"""
    evaluations: int = Field(0, ge=0)
    """evaluations over the whole run, evenly spaced"""
    patience: int | None = Field(None, ge=1)
    """evaluations without a better one after which the run ends; null waits for the last step"""
    precision: Literal["32-true", "bf16-mixed"] = "32-true"
    """precision of the forward pass; 32-true is that of the weights"""
    compile: bool = False
    """whether torch.compile compiles the network"""

    def schedule_factor(self) -> Callable[[int], float]:
        """The learning-rate factor as a function of the step number, from 0."""
        if self.schedule == "cosine":
            return cosine(self.steps, warmup=self.warmup)
        rise, course = warmup(self.warmup), {
            "constant": lambda step: 1.0,
            "linear": linear(self.steps, cooldown=self.cooldown),
            "halved": step_decay(self.steps // 2),
        }[self.schedule]  # fmt: skip
        return lambda step: rise(step) * course(step)

    def new_optimizer(self, parameters) -> torch.optim.Optimizer:
        """The optimizer over these parameters."""
        shared = {"lr": self.learning_rate, "weight_decay": self.weight_decay}
        if self.optimizer == "sgd":
            return torch.optim.SGD(parameters, **shared)
        kind = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}[self.optimizer]
        return kind(parameters, betas=(0.9, self.beta2), **shared)


@dataclass
class Trained:
    """The result of :func:`train`.

    Attributes
    ----------
    network : torch.nn.Module
        In evaluation mode: the moving average if the settings have one, at its best evaluation if ``best`` was given.
    history : dict of str to numpy.ndarray, shape (evaluations,)
        ``step``, ``loss`` and ``gradient_norm`` (of that step's batch, before clipping), ``learning_rate``,
        ``seconds`` (CPU time of this process since the start, excluding evaluations), and the values of ``evaluate``.
    losses : numpy.ndarray, shape (steps taken,), float32
        Mean loss of each step's batch.
    step : int
        Step of the returned network.
    outcome : {"finished", "stopped early", "diverged"}
        A callback or the patience stops a run early.
    """

    network: torch.nn.Module
    history: dict[str, np.ndarray]
    losses: np.ndarray
    step: int
    outcome: str

    @property
    def parameters(self) -> int:
        """The number of parameters."""
        return sum(one.numel() for one in self.network.parameters())


@renamed(hooks="callbacks")
def train(
    network: torch.nn.Module,
    loss: Callable,
    data: Callable | Sequence[torch.Tensor],
    settings: Training,
    *,
    seed: int = 0,
    device: str = "cpu",
    work: Path | None = None,
    evaluate: Callable | None = None,
    best: str | Callable | None = None,
    schedule: Callable[[int], float] | None = None,
    callbacks: Sequence[Callable] = (),
    may_diverge: bool = False,
) -> Trained:
    """Train a network by settings: evaluations, best state, moving average, metrics.

    Parameters
    ----------
    network : torch.nn.Module
        Trained in place, on ``device``.
    loss, seed, device, callbacks
        As :func:`fit` takes them.
    data : callable or sequence of torch.Tensor, each of shape (n, ...)
        Batches as :func:`fit` takes them, or the samples themselves, reshuffled in each epoch.
    settings : Training
    work : path, optional
        Where to keep the run, without a suffix: ``.pt`` is its checkpoint, from which it resumes, and ``.jsonl``
        collects its metrics, one line at a time.
    evaluate : callable, optional
        Maps the network (or its moving average), in evaluation mode and without gradients, to a dictionary of numbers,
        with the same names each time.
    best : str or callable, optional
        The value to minimize: a name in that dictionary, or a function of it. Then the best state is returned, and the
        patience counts from it.
    schedule : callable, optional
        Replaces the schedule of the settings.
    may_diverge : bool
        Return a diverged run up to that point, instead of raising.

    Returns
    -------
    Trained

    Raises
    ------
    DivergenceError
        If a loss, a parameter, or the value to minimize becomes infinite or NaN.
    ValueError
        If the settings have evaluations or patience without ``evaluate`` or ``best``.
    """
    if settings.evaluations and evaluate is None:
        raise ValueError(f"the settings ask for {settings.evaluations} evaluations: give train(evaluate=)")
    if settings.patience and best is None:
        raise ValueError(
            f"the settings have a patience of {settings.patience}: say with train(best=) what counts"
        )
    network.to(device)
    average = None if settings.ema is None else MovingAverage(network, settings.ema)
    used = average.network if average else network
    if settings.compile:
        for one in {network, used}:
            one.compile()
    batches = data
    if not callable(data):
        batches = Batches(*data, size=min(settings.batch, len(data[0])), seed=seed)
    file = None if work is None else Path(work)
    recorder = _Recorder(settings, used, evaluate, best, file and file.with_name(f"{file.name}.jsonl"))
    outcome = "finished"
    try:
        run = fit(
            network, loss, batches, settings.new_optimizer(network.parameters()), steps=settings.steps, seed=seed,
            schedule=schedule or settings.schedule_factor(), clip=settings.clip, accumulate=settings.accumulate,
            precision=settings.precision, device=device, callbacks=[*filter(None, [average]), recorder, *callbacks],
            checkpoint=file and file.with_name(f"{file.name}.pt"),
        )  # fmt: skip
        outcome = "stopped early" if run.step < settings.steps else "finished"
    except DivergenceError as stopped:
        if not may_diverge:
            raise
        run, outcome = stopped.run, "diverged"
    if recorder.weights is not None:
        used.load_state_dict(recorder.weights)
    names = recorder.rows[0] if recorder.rows else {}
    history = {name: np.array([row[name] for row in recorder.rows]) for name in names}
    step = run.step if recorder.weights is None else recorder.rows[recorder.best_row]["step"]
    return Trained(used.eval(), history, run.losses[: run.step].cpu().numpy(), step, outcome)


class _Recorder:
    """A callback that evaluates, keeps the best weights, writes metrics, and ends the run when patience runs out."""

    def __init__(self, settings: Training, used, evaluate, best, file: Path | None):
        self.used, self.evaluate, self.file, self.patience = used, evaluate, file, settings.patience
        self.value_of = (lambda row: row[best]) if isinstance(best, str) else best
        self.steps = settings.steps
        self.every = max(1, self.steps // settings.evaluations) if settings.evaluations else 0
        self.rows, self.weights, self.best_row, self.lowest = [], None, 0, float("inf")
        self._evaluating, self._begin = 0.0, time.process_time()

    def __call__(self, run: Run) -> bool:
        due = self.every and (run.step % self.every == 0 or run.step == self.steps)
        if not due and run.step % max(1, self.steps // LINES):
            return False
        row = self._measured(run)
        if due:
            begin = time.process_time()
            with evaluating(self.used) as network:
                row |= {name: float(value) for name, value in self.evaluate(network).items()}
            self.rows.append(row)
            self._evaluating += time.process_time() - begin
        run.metrics = row
        if (
            self.file is not None
            and int(torch.distributed.is_initialized() and torch.distributed.get_rank()) == 0
        ):
            self.file.parent.mkdir(parents=True, exist_ok=True)
            with open(self.file, "a", encoding="utf-8") as file:
                file.write(json.dumps(row | {"steps": self.steps}) + "\n")
        return bool(due and self.value_of) and self._is_over(run)

    def _measured(self, run: Run) -> dict:
        seconds = time.process_time() - self._begin - self._evaluating
        norm = run.gradient_norm
        if norm is None:
            gradients = [one.grad for one in run.network.parameters() if one.grad is not None]
            norm = torch.nn.utils.get_total_norm(gradients)
        return {
            "step": run.step, "loss": run.losses[run.step - 1].item(), "gradient_norm": float(norm),
            "learning_rate": float(run.optimizer.param_groups[0]["lr"]), "seconds": seconds,
        }  # fmt: skip

    def _is_over(self, run: Run) -> bool:
        value = float(self.value_of(self.rows[-1]))
        if not np.isfinite(value):
            raise DivergenceError(f"training diverged by step {run.step}: its evaluation is {value}", run)
        if value < self.lowest:
            self.lowest, self.best_row = value, len(self.rows) - 1
            self.weights = deepcopy(self.used.state_dict())
        return self.patience is not None and len(self.rows) - 1 - self.best_row >= self.patience

    def state_dict(self) -> dict:
        kept = ("rows", "weights", "best_row", "lowest")
        return {name: getattr(self, name) for name in kept}

    def load_state_dict(self, state: dict) -> None:
        for name, value in state.items():
            setattr(self, name, value)
        if self.rows:
            self._begin -= self.rows[-1]["seconds"]
        if self.file is not None:
            self.file.unlink(missing_ok=True)
            lines = [json.dumps(row | {"steps": self.steps}) + "\n" for row in self.rows]
            self.file.write_text("".join(lines), encoding="utf-8")
