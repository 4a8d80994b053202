"""The training loop of the book, for every model.

Everything random in a run is a function of its seed and the step number: the order of the data, the noise in the loss,
dropout. So a stopped run resumes exactly, without any saved random state.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from tqdm.auto import tqdm

from loupe.deprecation import renamed
from loupe.training.averaging import MovingAverage
from loupe.training.checkpoints import Checkpoint, signals_held
from loupe.training.devices import agreed, open_fabric, random_streams, seed_of, seed_streams
from loupe.training.divergence import CHECK_EVERY, stop_if_diverged


@renamed(optimiser="optimizer")
@dataclass
class Run:
    """A training run after ``step`` steps: the argument of callbacks and the result of :func:`fit`.

    Attributes
    ----------
    network : torch.nn.Module
    optimizer : torch.optim.Optimizer
    average : torch.nn.Module or None
        The exponential moving average of the network, in evaluation mode; see :class:`MovingAverage`.
    losses : torch.Tensor, shape (steps,), float32
        The mean loss of each step's batch; nan from ``step`` on.
    step : int
        Steps taken so far.
    ended : bool
        Whether a callback ended the run.
    gradient_norm : torch.Tensor or None
        Gradient norm of the latest step before clipping, if gradients are clipped.
    metrics : dict
        Values that callbacks add to the progress line.
    """

    network: torch.nn.Module
    optimizer: torch.optim.Optimizer
    average: torch.nn.Module | None
    losses: torch.Tensor
    step: int = 0
    ended: bool = False
    gradient_norm: torch.Tensor | None = None
    metrics: dict = field(default_factory=dict)


@renamed(optimiser="optimizer", hooks="callbacks")
def fit(
    network: torch.nn.Module,
    loss: Callable,
    batches: Callable,
    optimizer: torch.optim.Optimizer,
    *,
    steps: int,
    seed: int = 0,
    schedule: Callable[[int], float] | None = None,
    clip: float | None = None,
    ema: float | None = None,
    accumulate: int = 1,
    precision: str = "32-true",
    device: str = "cpu",
    callbacks: Sequence[Callable] = (),
    checkpoint: Path | None = None,
    save_every: int = 1000,
) -> Run:
    """Train a network on the CPU, on one GPU, or in several processes under ``torchrun``.

    Parameters
    ----------
    network : torch.nn.Module
        Trained in place.
    loss : callable
        ``loss(network, batch, generator)`` returns a scalar tensor: a mean over the samples of the batch. Draw noise
        from the generator, which is on the device.
    batches : callable
        ``batches(step, shard, shards)`` returns one shard of that step's batch, as :class:`Batches` does. There are
        processes x ``accumulate`` shards: the batch is the same however it is split.
    optimizer : torch.optim.Optimizer
        Optimizer of the network's parameters; its learning rates are restored afterwards. A resumed run takes the
        optimizer's state, such as moments and step counts, from the checkpoint, and whatever the optimizer itself
        changes in its groups. Learning rate, weight decay, betas and the like come from this argument.
    steps : int
        Steps after which the run ends, unless a callback ends it earlier.
    seed : int
        Seed of the loss's generator and, during the run, of torch's global one (dropout).
    schedule : callable, optional
        Maps the step number, from 0, to a factor on the optimizer's learning rates.
    clip : float, optional
        Largest norm of the gradient.
    ema : float, optional
        Decay of an exponential moving average of the network; see :class:`MovingAverage`.
    accumulate : int
        Gradient accumulation: each process splits its part of the batch into this many shards, to save memory.
    precision : str
        ``32-true`` (the network's own dtype), ``bf16-mixed``, or another of Lightning Fabric's names.
    device : str
        ``cpu``, ``cuda`` or ``cuda:N``; under ``torchrun`` each process takes its own GPU.
    callbacks : sequence of callables
        Each is called with the :class:`Run` after every step, and ends the run by returning True. With
        several processes all ranks must return the same.
    checkpoint : path, optional
        File to resume from, if it exists. It is written every ``save_every`` steps, at the end, and on SIGTERM or
        Ctrl-C, which then take effect. If ``loss`` or one of ``callbacks`` has a ``state_dict``, it is saved too; it may
        hold tensors, numbers, strings, lists, tuples and dictionaries. The file ends in a SHA-256 of its content.
    save_every : int

    Returns
    -------
    Run

    Raises
    ------
    DivergenceError
        If a loss or a parameter becomes infinite or NaN: a ValueError that names the step and the value. The checkpoint
        keeps the last good state. On a GPU this is checked every few steps and before each save.
    CheckpointError
        If the checkpoint is damaged or belongs to another run, seed, network or optimizer: a ValueError.
    ValueError
        If a number is out of range, or a state could not be restored from a checkpoint.
    """
    if min(steps, accumulate, save_every) < 1:
        raise ValueError(
            f"steps, accumulate and save_every must be at least 1, got {steps}, {accumulate} and {save_every}"
        )
    fabric = open_fabric(device, precision)
    model, stepper = fabric.setup(network, optimizer)
    callbacks = list(callbacks)
    if ema is not None:
        callbacks.insert(0, MovingAverage(network, ema))
    # On the device: copying a number to the CPU would wait for the GPU at every step.
    losses = torch.full((steps,), torch.nan, device=fabric.device)
    run = Run(network, optimizer, None if ema is None else callbacks[0].network, losses)
    for group in optimizer.param_groups:
        group["initial_lr"] = group["lr"]
    saved = Checkpoint(checkpoint, run, (loss, *callbacks), fabric, seed)
    saved.restore()
    ahead = range(run.step, run.step if run.ended else steps)
    shards = fabric.world_size * accumulate
    mine = range(shards)[fabric.global_rank * accumulate :][:accumulate]

    network.train()
    with random_streams(fabric.device) as generator, signals_held(saved.path) as stop_requested:
        progress = tqdm(ahead, initial=run.step, total=steps, disable=None, leave=False)
        for step in progress:
            for group in optimizer.param_groups:
                group["lr"] = group["initial_lr"] * (schedule(step) if schedule else 1.0)
            stepper.zero_grad()
            total = 0.0
            for shard in mine:
                seed_streams(seed_of(seed, step, shard), generator)
                batch = [tensor.to(fabric.device) for tensor in batches(step, shard, shards)]
                with fabric.no_backward_sync(model, enabled=shard != mine[-1]):
                    value = loss(model, batch, generator) / accumulate
                    fabric.backward(value)
                total = total + value.detach()
            if clip is not None:
                # A gradient that is not finite is found below, through the parameters.
                run.gradient_norm = fabric.clip_gradients(
                    model, stepper, max_norm=clip, error_if_nonfinite=False
                )
            stepper.step()
            run.losses[step] = fabric.all_reduce(total, reduce_op="mean")
            run.step = step + 1
            if fabric.device.type == "cpu" or run.step % CHECK_EVERY == 0:
                stop_if_diverged(run, saved)
            # A list: call every callback at every step.
            run.ended = any([callback(run) for callback in callbacks])
            progress.set_postfix(run.metrics, refresh=False)
            stopping = run.ended or agreed(fabric, stop_requested(), run.step)
            if stopping or run.step == steps or run.step % save_every == 0:
                stop_if_diverged(run, saved)  # a callback may have changed something too
                saved.save()
            if stopping:
                break
    for group in optimizer.param_groups:
        group["lr"] = group["initial_lr"]
    return run
