"""Devices and processes of a run, and its random generators."""

import os
import re
import warnings
from contextlib import contextmanager

import torch

from loupe.errors import shown

MASK = 2**64 - 1

# Variables of Slurm, LSF, MPI and torchrun, and of Fabric's own launcher: one process needs none of them.
LAUNCHERS = re.compile(
    r"(SLURM|SBATCH|LSB|JSM|LSF|OMPI|PMI|PMIX|MPI|TORCHELASTIC|LT|KUBERNETES)_"
    r"|(RANK|LOCAL_RANK|GROUP_RANK|NODE_RANK|WORLD_SIZE|LOCAL_WORLD_SIZE|MASTER_ADDR|MASTER_PORT|STANDALONE_PORT)$"
)

# Steps between checks whether any process wants to stop: the check waits for the GPU.
AGREE_EVERY = 10


def open_fabric(device, precision):
    """Lightning Fabric on a device, or on this rank's device under ``torchrun``.

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

    Raises
    ------
    ValueError
        If the environment announces several processes that ``torchrun`` did not start.
    """
    where, processes = torch.device(device), _processes()
    # By default convolutions use TF32 (ten bits) on newer GPUs, whatever the precision setting.
    torch.backends.cudnn.allow_tf32 = not precision.startswith("32")
    if processes > 1:
        here = int(os.environ.get("LOCAL_WORLD_SIZE", processes))
        spread = {"strategy": "ddp", "devices": here, "num_nodes": processes // here}
    else:
        spread = {"devices": 1 if where.type == "cpu" else [where.index or 0]}
    with warnings.catch_warnings(), _without_launchers(processes == 1):
        warnings.simplefilter("ignore")  # hints about the environment: an unused GPU, an installed Slurm
        from lightning_fabric import Fabric  # a second to import, and only needed to train
        from lightning_fabric.plugins.environments import LightningEnvironment, TorchElasticEnvironment

        # Explicit: otherwise Fabric tries every launcher whose variables it finds.
        cluster = TorchElasticEnvironment() if processes > 1 else LightningEnvironment()
        fabric = Fabric(accelerator=where.type, precision=precision, plugins=[cluster], **spread)
        fabric.launch()
    return fabric


def _processes():
    """Number of processes that ``torchrun`` started; 1 without it."""
    names = ("WORLD_SIZE", "LOCAL_WORLD_SIZE", "RANK", "LOCAL_RANK", "MASTER_PORT")
    found = {name: os.environ[name] for name in names if name in os.environ}
    if found.get("WORLD_SIZE", "1") == "1":
        return 1
    missing = [name for name in (*names, "MASTER_ADDR") if name not in os.environ]
    wrong = [f"{name}={shown(value)}" for name, value in found.items() if not re.fullmatch(r"\d{1,6}", value)]
    if wrong or missing or not int(found["LOCAL_WORLD_SIZE"]) or int(found["WORLD_SIZE"]) < 1:
        what = f"{wrong[0]} is no number" if wrong else f"WORLD_SIZE={found['WORLD_SIZE']} is set"
        lacks = f" without {missing[0]}" if missing and not wrong else ""
        raise ValueError(
            f"{what}{lacks}: take WORLD_SIZE out of the environment, or start several processes by torchrun"
        )
    return int(found["WORLD_SIZE"])


@contextmanager
def _without_launchers(removed):
    """Hide variables of job schedulers and launchers from Fabric during the block."""
    left = {name: os.environ.pop(name) for name in list(os.environ) if removed and LAUNCHERS.match(name)}
    try:
        yield
    finally:
        os.environ.update(left)


def agreed(fabric, flag, step):
    """Whether a flag is set in any process; they synchronize only every few steps."""
    if fabric.world_size == 1:
        return flag
    if step % AGREE_EVERY:
        return False
    return bool(fabric.all_reduce(torch.tensor(float(flag), device=fabric.device), reduce_op="sum"))


@contextmanager
def random_streams(device):
    """A generator on the device for the block; afterwards torch's global generators are restored."""
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        yield torch.Generator(device)


def seed_streams(seed, generator):
    """Seed the run's generator and, for dropout, torch's own; directly, since ``torch.manual_seed`` is slow."""
    generator.manual_seed(seed)
    torch.default_generator.manual_seed(seed + 1)
    if generator.device.type == "cuda":
        torch.cuda.manual_seed(seed + 1)


def seed_of(*numbers):
    """One seed from several integers; nearby inputs give unrelated seeds (the mixing function of splitmix64)."""
    state = 0
    for number in numbers:
        state = (state + number + 0x9E3779B97F4A7C15) & MASK
        state = ((state ^ state >> 30) * 0xBF58476D1CE4E5B9) & MASK
        state = ((state ^ state >> 27) * 0x94D049BB133111EB) & MASK
        state ^= state >> 31
    return state >> 2
