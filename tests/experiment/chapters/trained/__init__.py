"""A chapter whose units train in several processes, take a moment, or fail."""

import os
import signal
import time
from pathlib import Path

from pydantic import Field

from loupe.experiment import Preset, experiment
from loupe.papers import PAPERS

PAPER = PAPERS.get("trained")
CLAIMS = ()


class Config(Preset):
    seeds: tuple[int, ...] = Field((0,), min_length=1)
    """seeds"""
    train_seeds: tuple[int, ...] = ()
    """seeds of what trains"""
    slow_seeds: tuple[int, ...] = ()
    """seeds of what takes a moment"""
    pause: float = 0.5
    """half the seconds that it takes"""
    patient_seeds: tuple[int, ...] = ()
    """seeds of what trains slowly"""
    wrong_seeds: tuple[int, ...] = ()
    """seeds of what fails"""
    judged_seeds: tuple[int, ...] = ()
    """seeds whose networks are judged"""


PRESETS = {
    "smoke": Config(train_seeds=(0,)), "cpu": Config(slow_seeds=(0, 1)), "gpu": Config(wrong_seeds=(0, 1, 2)),
    "paper": Config(patient_seeds=(0,)),
}  # fmt: skip


@experiment(seeds="train_seeds")
def lopsided(config, *, seed, device):
    """Fails in one process, while the other waits for it."""
    if os.environ.get("RANK") == "1":
        raise ValueError("one side fell")
    return _train(seed, device)


@experiment(seeds="train_seeds")
def train(config, *, seed, device, work):
    """A network that all processes train together; the last to end is not the first."""
    rank = int(os.environ.get("RANK", 0))
    values = _train(seed, device, work / "run")
    time.sleep(rank)
    return values | {"rank": rank}


@experiment(seeds="judged_seeds", after=("train",))
def judged(config, *, seed, device, earlier):
    """Starts from the network that ``train`` has stored."""
    return {"size": float(abs(earlier["train"]["weight"]).mean())}


@experiment(seeds="patient_seeds")
def patient(config, *, seed, device, work):
    """Trains slowly, and says that it has begun."""
    begun = Path(os.environ["SLOW_LOG"])

    def pause():
        new = begun.with_suffix(".new")
        new.write_text(str(os.getpid()))
        new.replace(begun)  # a reader never finds it empty
        time.sleep(float(os.environ.get("PAUSE", 0)))  # no setting: it changes no result

    return _train(seed, device, work / "run", pause)


def _train(seed, device, checkpoint=None, pause=lambda: None):
    import torch

    from loupe.training import Batches, fit

    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(200, 8, generator=generator)
    y = (x @ torch.randn(8, 3, generator=generator)).argmax(dim=1)
    torch.manual_seed(seed)
    net = torch.nn.Linear(8, 3)

    def loss(model, batch, generator):
        pause()
        return torch.nn.functional.cross_entropy(model(batch[0]), batch[1])

    optimizer = torch.optim.Adam(net.parameters(), lr=1e-2)
    batches = Batches(x, y, size=32)
    run = fit(net, loss, batches, optimizer, steps=50, device=device, checkpoint=checkpoint, save_every=20)
    return {"losses": run.losses.numpy(), "weight": net.weight.detach().numpy()}


@experiment(seeds="slow_seeds")
def slow(config, *, seed, device):
    """Writes down when it begins and ends, and is not to be ended kindly."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    for word in ("begin", "end"):
        with open(os.environ["SLOW_LOG"], "a") as log:
            log.write(f"{seed} {word}\n")
        time.sleep(config.pause)
    return {"pid": os.getpid()}


@experiment(seeds="wrong_seeds")
def wrong(config, *, seed, device):
    """Refuses a value, makes a mistake, or is right."""
    if seed == 0:
        raise ValueError("alpha 3 is too large:\n  give at most 2")
    return {"x": [1.0][seed - 1]}
