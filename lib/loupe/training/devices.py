"""Where a run computes, and where its random numbers come from."""

import os
import warnings
from contextlib import contextmanager

import torch

MASK = 2**64 - 1

# Steps after which several processes ask each other whether to stop: asking waits for the GPU.
AGREE_EVERY = 10


def open_fabric(device, precision):
    """Lightning Fabric on a device, or on this process's share of the machines if ``torchrun`` started it.

    Parameters
    ----------
    device : str
        ``cpu``, ``cuda`` or ``cuda:N``.
    precision : str
        One of Fabric's names, such as ``32-true`` or ``bf16-mixed``.

    Returns
    -------
    lightning_fabric.Fabric
        Launched.
    """
    from lightning_fabric import Fabric  # a second to import, and only needed to train

    where = torch.device(device)
    # Convolutions would by default round to ten bits on newer GPUs, whatever the precision is called.
    torch.backends.cudnn.allow_tf32 = not precision.startswith("32")
    processes, here = (int(os.environ.get(name, 1)) for name in ("WORLD_SIZE", "LOCAL_WORLD_SIZE"))
    if processes > 1:
        spread = {"strategy": "ddp", "devices": here, "num_nodes": processes // here}
    else:
        spread = {"devices": 1 if where.type == "cpu" else [where.index or 0]}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # advice on the environment: an unused GPU, an installed Slurm
        fabric = Fabric(accelerator=where.type, precision=precision, **spread)
        fabric.launch()
    return fabric


def agreed(fabric, flag, step):
    """Whether a flag is set in any of the processes, which ask each other only every few steps."""
    if fabric.world_size == 1:
        return flag
    if step % AGREE_EVERY:
        return False
    return bool(fabric.all_reduce(torch.tensor(float(flag), device=fabric.device), reduce_op="sum"))


@contextmanager
def random_streams(device):
    """A generator on the device for the block, at whose end torch's global generators are as they were before."""
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        yield torch.Generator(device)


def seed_streams(seed, generator):
    """Seed the run's generator and, for dropout, torch's own: directly, as torch's search for all of them is slow."""
    generator.manual_seed(seed)
    torch.default_generator.manual_seed(seed + 1)
    if generator.device.type == "cuda":
        torch.cuda.manual_seed(seed + 1)


def seed_of(*numbers):
    """One seed from several whole numbers; neighbours give unrelated ones (the mixing function of splitmix64)."""
    state = 0
    for number in numbers:
        state = (state + number + 0x9E3779B97F4A7C15) & MASK
        state = ((state ^ state >> 30) * 0xBF58476D1CE4E5B9) & MASK
        state = ((state ^ state >> 27) * 0x94D049BB133111EB) & MASK
        state ^= state >> 31
    return state >> 2
