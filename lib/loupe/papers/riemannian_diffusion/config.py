"""Settings of the chapter: the defaults are the paper's, from its released configurations."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from loupe.experiment import Preset
from loupe.training import Training

EVENTS = ("volc", "quakes", "flood", "fire")


class Network(BaseModel):
    """An MLP for scores, and the noise it is trained at."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    width: int = Field(512, ge=1)
    """units of each hidden layer"""
    layers: int = Field(5, ge=1)
    """hidden layers"""
    waves: int = Field(0, ge=0)
    """random Fourier features of the points; the paper has none"""
    frequency: float = Field(16.0, ge=1)
    """largest length of their wave vectors; the smallest is 1"""
    sigma_min: float = Field(1e-3, gt=0)
    """smallest noise level"""
    sigma_max: float = Field(4.0, gt=0)
    """largest noise level"""


EARTH_TRAINING = Training(steps=600_000, batch=512, learning_rate=1e-4, ema=0.999)
LARGE_TRAINING = Training(steps=1_000_000, batch=512, learning_rate=5e-4, ema=0.999)


class Config(Preset):
    """Settings of ``riemannian_diffusion``."""

    one_seed: tuple[int, ...] = (0,)
    """seed of experiments that are exact, or repeat inside themselves"""

    seeds: tuple[int, ...] = Field((0, 1, 2, 3, 4), min_length=1)
    """seeds of the comparison of estimators: of splits, weights and noise"""

    long_seeds: tuple[int, ...] = (0, 1, 2, 3, 4)
    """seeds of longer training on all sets"""

    group_seeds: tuple[int, ...] = (0, 1, 2)
    """seeds of networks on SU(3)"""

    outlier_seeds: tuple[int, ...] = (0, 1, 2)
    """seeds of the detection of outliers"""

    draws: int = Field(20_000, ge=100)
    """samples of each test of a sampler"""

    points: int = Field(64, ge=8)
    """points at which the scores of estimators are compared with exact ones"""

    levels: int = Field(12, ge=2)
    """noise levels of these comparisons"""

    sets: tuple[Literal["volc", "quakes", "flood", "fire"], ...] = Field(EVENTS, min_length=1)
    """sets on which estimators are compared"""

    earth: Network = Network()
    """network for points on the globe, and for the synthetic sets"""

    training: Training = EARTH_TRAINING
    """training of the comparison of estimators"""

    long_training: Training = EARTH_TRAINING
    """training on all sets"""

    synthetic_training: Training = EARTH_TRAINING
    """training on synthetic sets, whose density is known"""

    flow_steps: int = Field(100, ge=2)
    """Runge-Kutta steps of samples and likelihoods"""

    tested: int = Field(20_000, ge=8)
    """most test points of a likelihood"""

    dimensions: tuple[int, ...] = Field((3, 15, 63, 127), min_length=2)
    """dimensions of spheres on which denoising and sliced score matching are compared"""

    sphere: Network = Network()
    """network for these spheres"""

    sphere_training: Training = LARGE_TRAINING
    """training on these spheres"""

    group: Network = Network(width=256, layers=3, sigma_min=0.01, sigma_max=3.0)
    """network for SU(3); the paper's is convolutional"""

    group_training: Training = LARGE_TRAINING
    """training on SU(3)"""

    lattice: int = Field(4, ge=2)
    """sites along each side of the lattice"""

    beta: float = Field(9.0, gt=0)
    """inverse coupling"""

    chains: int = Field(20_000, ge=16)
    """chains of the Monte Carlo reference, and with that the samples for training"""

    sweeps: int = Field(400, ge=2)
    """trajectories of each chain"""

    weighed: int = Field(4096, ge=16)
    """samples of the flow that get an importance weight"""

    group_steps: int = Field(100, ge=2)
    """Runge-Kutta steps of samples and likelihoods on SU(3)"""

    outliers: Literal["cifar10", "mnist", "digits"] = "cifar10"
    """images whose features are embedded in a sphere"""

    embedding: int = Field(128, ge=3)
    """coordinates of an embedding"""

    encoder_epochs: int = Field(60, ge=1)
    """passes of the encoder's training"""

    scored: int = Field(10_000, ge=16)
    """most test images of each set"""

    embedding_network: Network = Network(width=256, layers=5, sigma_max=0.6)
    """network for embeddings"""

    embedding_training: Training = LARGE_TRAINING
    """training on embeddings"""


PAPER_SETTINGS = Config()
EARTH = {"width": 128, "layers": 3, "waves": 64}
RECIPE = {"learning_rate": 5e-3, "schedule": "cosine", "warmup": 100}
GPU = PAPER_SETTINGS.override(
    {
        "seeds": [0, 1, 2], "long_seeds": [0, 1, 2], "sets": ["flood", "quakes"], "earth": EARTH,
        "training": RECIPE | {"steps": 10_000, "evaluations": 10},
        "long_training": RECIPE | {"steps": 30_000, "evaluations": 10},
        "synthetic_training": RECIPE | {"steps": 6000}, "tested": 1300,
        "sphere": {"width": 128, "layers": 3}, "sphere_training": RECIPE | {"steps": 4000, "batch": 256, "evaluations": 8},
        "group": {"width": 128, "layers": 3, "sigma_min": 0.03}, "group_training": RECIPE | {"steps": 4000, "batch": 256},
        "lattice": 2, "chains": 2048, "sweeps": 100, "weighed": 1024, "group_steps": 25, "scored": 1500,
        "encoder_epochs": 10, "embedding_network": {"width": 128, "layers": 3},
        "embedding_training": RECIPE | {"steps": 10_000, "batch": 256},
    }
)  # fmt: skip
CPU = GPU.override(
    {
        "long_seeds": [], "training": {"steps": 3000, "evaluations": 3}, "synthetic_training": {"steps": 2000},
        "dimensions": [3, 15, 63], "sphere_training": {"steps": 1000}, "tested": 700, "flow_steps": 50,
        "group_seeds": [0], "group_training": {"steps": 1500, "batch": 128}, "chains": 1024, "sweeps": 60, "weighed": 256,
        "outlier_seeds": [0], "outliers": "mnist", "embedding": 64, "encoder_epochs": 2,
        "embedding_training": {"steps": 2000}, "scored": 600,
    }
)  # fmt: skip
SMOKE = CPU.override(
    {
        "seeds": [0], "draws": 2000, "points": 12, "levels": 3, "sets": ["flood"], "flow_steps": 6, "tested": 60,
        "earth": {"width": 16, "layers": 1, "waves": 4}, "training": {"steps": 30, "batch": 64, "evaluations": 2},
        "synthetic_training": {"steps": 30, "batch": 64}, "dimensions": [3, 15],
        "sphere": {"width": 16, "layers": 1}, "sphere_training": {"steps": 20, "batch": 32, "evaluations": 2},
        "group": {"width": 16, "layers": 1}, "group_training": {"steps": 20, "batch": 16}, "chains": 64,
        "sweeps": 8, "weighed": 16, "group_steps": 6, "outliers": "digits", "embedding": 32, "scored": 64,
        "encoder_epochs": 1, "embedding_network": {"width": 16, "layers": 1},
        "embedding_training": {"steps": 20, "batch": 32},
    }
)  # fmt: skip
PRESETS = {"smoke": SMOKE, "cpu": CPU, "gpu": GPU, "paper": PAPER_SETTINGS}
