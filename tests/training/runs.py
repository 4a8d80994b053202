"""A run with everything in it that a checkpoint has to keep; also a program: ``runs.py CHECKPOINT STEPS PAUSE SAVE_EVERY``.

It ends by printing a digest of all its bits.
"""

import hashlib
import sys
import time
from pathlib import Path

import torch

from loupe.training import Batches, History, TrajectoryRecorder, cosine, fit, flat_parameters


def network():
    """A small classifier with dropout and batch normalization."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return torch.nn.Sequential(
            torch.nn.Linear(8, 16),
            torch.nn.BatchNorm1d(16),
            torch.nn.ReLU(),
            torch.nn.Dropout(0.2),
            torch.nn.Linear(16, 3),
        )


def data(n=101):
    """Inputs and labels; 101 divides into no batch."""
    generator = torch.Generator().manual_seed(1)
    return torch.randn(n, 8, generator=generator), torch.randint(3, (n,), generator=generator)


def noisy_loss(model, batch, generator):
    """Cross-entropy of inputs with noise from the run's generator."""
    x, y = batch
    noise = torch.randn(x.shape, generator=generator, device=x.device)
    return torch.nn.functional.cross_entropy(model(x + 0.1 * noise), y)


def train(steps, checkpoint=None, callbacks=(), folder=None, **settings):
    """The run, its recorder and its history."""
    net = network()
    file = None if folder is None else folder / "trajectory"
    recorder = TrajectoryRecorder(net, 20, file)
    history = History(7, lambda run: {"norm": flat_parameters(run.network).norm()})
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-2)
    run = fit(
        net,
        noisy_loss,
        Batches(*data(), size=16, seed=3),
        optimizer,
        steps=steps,
        schedule=cosine(steps, warmup=5),
        clip=1.0,
        ema=0.9,
        callbacks=(recorder, history, *callbacks),
        checkpoint=checkpoint,
        **settings,
    )
    return run, recorder, history


def digest(run, recorder, history):
    """One digest of weights, buffers, optimizer, average, losses, trajectory and history."""
    states = (run.network.state_dict(), run.average.state_dict())
    moments = [value for one in run.optimizer.state_dict()["state"].values() for value in one.values()]
    tensors = [*(tensor for state in states for tensor in state.values()), *moments, run.losses]
    content = [tensor.detach().numpy().tobytes() for tensor in tensors]
    content += [recorder.iterates().tobytes(), repr((history.steps, history.values)).encode()]
    return hashlib.sha256(b"".join(content)).hexdigest()


if __name__ == "__main__":
    place, number, pause, often = Path(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3]), int(sys.argv[4])
    begun = []

    def linger(run):
        """Say once that the run goes, and make every step last a while."""
        if not begun:
            begun.append(print("started", flush=True))
        time.sleep(pause)

    done = train(number, place, (linger,), folder=place.parent, save_every=often)
    print(digest(*done))
