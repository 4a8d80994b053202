"""The one training loop of the book, for every model in it.

Whatever is random in a run is a function of its seed and of the number of the step: the order of the data, the noise
in the loss, dropout. So a run that was stopped needs no random state to go on as if it had not been.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from tqdm.auto import tqdm

from loupe.training.averaging import MovingAverage
from loupe.training.checkpoints import Checkpoint, signals_held
from loupe.training.devices import agreed, open_fabric, random_streams, seed_of, seed_streams
from loupe.training.divergence import CHECK_EVERY, stop_if_diverged


@dataclass
class Run:
    """A training run after ``step`` steps: what hooks are given and :func:`fit` returns.

    Attributes
    ----------
    network : torch.nn.Module
    optimiser : torch.optim.Optimizer
    average : torch.nn.Module or None
        The exponential moving average of the network, in evaluation mode; see :class:`MovingAverage`.
    losses : torch.Tensor, shape (steps,), float32
        The mean loss of each step's batch; nan from ``step`` on.
    step : int
        Steps taken so far.
    ended : bool
        Whether a hook ended the run.
    gradient_norm : torch.Tensor or None
        Of the latest step before clipping, if gradients are clipped.
    metrics : dict
        What a hook wants to show on the line of progress.
    """

    network: torch.nn.Module
    optimiser: torch.optim.Optimizer
    average: torch.nn.Module | None
    losses: torch.Tensor
    step: int = 0
    ended: bool = False
    gradient_norm: torch.Tensor | None = None
    metrics: dict = field(default_factory=dict)


def fit(
    network: torch.nn.Module,
    loss: Callable,
    batches: Callable,
    optimiser: torch.optim.Optimizer,
    *,
    steps: int,
    seed: int = 0,
    schedule: Callable[[int], float] | None = None,
    clip: float | None = None,
    ema: float | None = None,
    accumulate: int = 1,
    precision: str = "32-true",
    device: str = "cpu",
    hooks: Sequence[Callable] = (),
    checkpoint: Path | None = None,
    save_every: int = 1000,
) -> Run:
    """Train a network, on a processor, on one GPU, or in several processes started by ``torchrun``.

    Parameters
    ----------
    network : torch.nn.Module
        Trained in place.
    loss : callable
        ``loss(network, batch, generator)`` returns a scalar tensor: a mean over the samples of the batch. Noise is
        to be drawn from the generator, which lives on the device.
    batches : callable
        ``batches(step, part, parts)`` returns the tensors of one part of that step's batch, as :class:`Batches`
        does. There are processes x ``accumulate`` parts: the batch is the same however it is spread.
    optimiser : torch.optim.Optimizer
        Over the parameters of the network; its learning rates are afterwards what they were before. A run that goes on
        from a checkpoint takes from it the optimizer's state, such as moments and counts of steps, and what the optimizer
        itself changes in its groups. The learning rate, weight decay, betas and the like are those of this argument.
    steps : int
        Steps after which the run ends, if no hook ends it before.
    seed : int
        Of the loss's generator and, during the run, of torch's global one (dropout).
    schedule : callable, optional
        Maps the number of the step, from 0, to a factor on the optimiser's learning rates.
    clip : float, optional
        Largest norm of the gradient.
    ema : float, optional
        Decay of an exponential moving average of the network; see :class:`MovingAverage`.
    accumulate : int
        Parts in which each process takes its share of the batch, one after the other, to save memory.
    precision : str
        ``32-true`` (the network's own dtype), ``bf16-mixed``, or another of Lightning Fabric's names.
    device : str
        ``cpu``, ``cuda`` or ``cuda:N``; under ``torchrun`` each process takes a GPU of its own.
    hooks : sequence of callables
        Each is given the :class:`Run` after every step, and ends the run by returning True. In several processes
        all must decide alike.
    checkpoint : path, optional
        File to go on from, if it is there. It is written every ``save_every`` steps, at the end, and on SIGTERM or
        Ctrl-C, which then take their course. Whatever of ``loss`` and ``hooks`` has a ``state_dict`` is saved too: made of
        tensors, numbers, strings, lists, tuples and dictionaries. It ends in a SHA-256 of its content.
    save_every : int

    Returns
    -------
    Run

    Raises
    ------
    DivergenceError
        If a loss or a parameter becomes infinite or NaN: a ValueError that names the step and the value. The checkpoint
        keeps the last good state. A GPU is asked every few steps and before each save.
    CheckpointError
        If the checkpoint is damaged or of another run, seed, network or optimizer: a ValueError.
    ValueError
        If a number is out of range, or a state could not be restored from a checkpoint.
    """
    if min(steps, accumulate, save_every) < 1:
        raise ValueError(
            f"steps, accumulate and save_every must be at least 1, got {steps}, {accumulate} and {save_every}"
        )
    fabric = open_fabric(device, precision)
    model, stepper = fabric.setup(network, optimiser)
    hooks = list(hooks)
    if ema is not None:
        hooks.insert(0, MovingAverage(network, ema))
    # On the device: writing a number to the processor would wait for the GPU at every step.
    losses = torch.full((steps,), torch.nan, device=fabric.device)
    run = Run(network, optimiser, None if ema is None else hooks[0].network, losses)
    for group in optimiser.param_groups:
        group["initial_lr"] = group["lr"]
    saved = Checkpoint(checkpoint, run, (loss, *hooks), fabric, seed)
    saved.restore()
    ahead = range(run.step, run.step if run.ended else steps)
    parts = fabric.world_size * accumulate
    mine = range(parts)[fabric.global_rank * accumulate :][:accumulate]

    network.train()
    with random_streams(fabric.device) as generator, signals_held(saved.path) as stop_asked:
        progress = tqdm(ahead, initial=run.step, total=steps, disable=None, leave=False)
        for step in progress:
            for group in optimiser.param_groups:
                group["lr"] = group["initial_lr"] * (schedule(step) if schedule else 1.0)
            stepper.zero_grad()
            total = 0.0
            for part in mine:
                seed_streams(seed_of(seed, step, part), generator)
                batch = [tensor.to(fabric.device) for tensor in batches(step, part, parts)]
                with fabric.no_backward_sync(model, enabled=part != mine[-1]):
                    value = loss(model, batch, generator) / accumulate
                    fabric.backward(value)
                total = total + value.detach()
            if clip is not None:
                # A gradient that is not finite is found below, by what it makes of the parameters.
                run.gradient_norm = fabric.clip_gradients(
                    model, stepper, max_norm=clip, error_if_nonfinite=False
                )
            stepper.step()
            run.losses[step] = fabric.all_reduce(total, reduce_op="mean")
            run.step = step + 1
            if fabric.device.type == "cpu" or run.step % CHECK_EVERY == 0:
                stop_if_diverged(run, saved)
            run.ended = any([hook(run) for hook in hooks])  # a list: every hook sees every step
            progress.set_postfix(run.metrics, refresh=False)
            stopping = run.ended or agreed(fabric, stop_asked(), run.step)
            if stopping or run.step == steps or run.step % save_every == 0:
                stop_if_diverged(run, saved)  # a hook may have done something too
                saved.save()
            if stopping:
                break
    for group in optimiser.param_groups:
        group["lr"] = group["initial_lr"]
    return run
