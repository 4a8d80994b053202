"""Settings of the chapter: the defaults are the paper's, for Edges to Handbags at 64 pixels."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from loupe.experiment import Preset
from loupe.training import Training

IMAGE_TRAINING = Training(
    steps=500_000, batch=192, optimizer="adamw", learning_rate=1e-4, ema=0.9999, precision="bf16-mixed"
)
TOY_TRAINING = Training(steps=3000, batch=512, learning_rate=2e-3, schedule="cosine", ema=0.998)


class Images(BaseModel):
    """Pairs of images, and the U-Net for them."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    data: Literal["cifar10", "mnist", "digits"] = "cifar10"
    """image set of the targets; the paper's own sets have no license to pass them on"""
    size: int = Field(32, ge=4)
    """height and width of an image in pixels"""
    source: Literal["edges", "blocks"] = "edges"
    """what the sources are: edge maps of the targets, or the targets' means over blocks, in gray"""
    block: int = Field(8, ge=1)
    """side of a block in pixels, where sources are means over blocks"""
    threshold: float = Field(0.25, gt=0)
    """gradient above which there is an edge, for images in [0, 1]"""
    smoothing: float = Field(1.0, ge=0)
    """standard deviation, in pixels, of the Gaussian before the gradient"""
    fold: int = Field(1, ge=1)
    """side of the blocks of pixels that the network sees as channels"""
    width: int = Field(192, ge=4)
    """channels of the first level of the U-Net"""
    multipliers: tuple[int, ...] = Field((1, 2, 3, 4), min_length=1)
    """channels of each level, divided by the width"""
    blocks: int = Field(3, ge=1)
    """residual blocks on each level"""
    attention: tuple[int, ...] = (16, 8)
    """sizes in pixels at which positions attend to each other"""
    dropout: float = Field(0.1, ge=0, lt=1)
    """dropout"""

    @model_validator(mode="after")
    def _fits(self):
        factor = self.fold * 2 ** (len(self.multipliers) - 1)
        if self.size % factor:
            raise ValueError(f"size must be a multiple of {factor} for these levels, got {self.size}")
        if self.source == "blocks" and self.size % self.block:
            raise ValueError(f"size must be a multiple of block, got {self.size} and {self.block}")
        return self


class Config(Preset):
    """Settings of ``ddbm``."""

    one_seed: tuple[int, ...] = (0,)
    """seed of experiments that repeat inside themselves, or are identities"""

    toy_seeds: tuple[int, ...] = Field((0, 1, 2, 3, 4), min_length=1)
    """seeds of networks for pairs of numbers"""

    seeds: tuple[int, ...] = Field((0, 1, 2), min_length=1)
    """seeds of image networks: of weights, data and noise"""

    control_seeds: tuple[int, ...] = (0, 1, 2)
    """seeds of networks that should fail, and of networks without a pair"""

    edge_seeds: tuple[int, ...] = (0,)
    """seeds of the network that colors edge maps in"""

    large_seeds: tuple[int, ...] = (0,)
    """seeds of networks on larger images"""

    photo_seeds: tuple[int, ...] = (0,)
    """seeds of networks on photographs"""

    sigma_max: float = Field(80.0, gt=0)
    """noise level at the end of the variance-exploding bridge"""

    beta_d: float = Field(2.0, ge=0)
    """growth of the noise rate of the variance-preserving bridge"""

    beta_min: float = Field(0.1, ge=0)
    """noise rate of the variance-preserving bridge at time 0"""

    sampler_steps: int = Field(40, ge=2)
    """steps of every sampler"""

    churn: float = Field(0.33, ge=0, lt=1)
    """share of each step that is stochastic"""

    toy_paths: int = Field(20_000, ge=100)
    """paths for each measurement on pairs of numbers"""

    toy_churns: tuple[float, ...] = (0.0, 0.001, 0.003, 0.01, 0.03, 0.1, 0.2, 0.33, 0.5, 0.7, 0.9)
    """churns at which the spread of paths on pairs of numbers is measured"""

    toy_steps: tuple[int, ...] = (10, 40, 160)
    """numbers of steps of paths on pairs of numbers"""

    toy_width: int = Field(64, ge=4)
    """units of the hidden layers of networks for pairs of numbers"""

    toy_training: Training = TOY_TRAINING
    """training of networks for pairs of numbers"""

    draws: int = Field(200_000, ge=1000)
    """draws for the moments of inputs and targets"""

    images: Images = Images()
    """pairs of the main comparison, and the network for them"""

    edges: Images = Images()
    """pairs of edge maps and images, and the network for them"""

    large: Images = Images()
    """pairs of larger images, and the network for them"""

    photos: Images = Images()
    """pairs of photographs with edge maps or gray blocks, whichever the experiment takes, and the network for them"""

    training: Training = IMAGE_TRAINING
    """training of image networks"""

    large_training: Training = IMAGE_TRAINING
    """training of networks on larger images"""

    # At gpu, a step takes 0.4 s of one core, and all six networks about four hours.
    photo_training: Training = IMAGE_TRAINING
    """training of networks on photographs"""

    judge_widths: tuple[int, ...] = Field((32, 64, 128), min_length=1)
    """channels of the classifier whose features samples are compared in"""

    judge_epochs: int = Field(10, ge=1)
    """passes over the training images of the classifier whose features samples are compared in"""

    samples: int = Field(10_000, ge=20)
    """test pairs that each sampler answers"""

    swept: int = Field(10_000, ge=20)
    """test pairs for each setting of a sweep"""

    churns: tuple[float, ...] = (0.0, 0.2, 0.33, 0.5, 0.7, 0.9)
    """churns of the sweep"""

    steps_swept: tuple[int, ...] = (5, 10, 20, 27, 40)
    """numbers of steps of the sweep"""

    guidances: tuple[float, ...] = (0.0, 0.25, 0.5, 0.75, 1.0)
    """weights of the pull to the source in the sweep"""

    answers: int = Field(8, ge=2)
    """samples for one source, to measure their diversity"""

    asked: int = Field(64, ge=2)
    """sources for which the diversity of samples is measured"""


PAPER_SETTINGS = Config()
MNIST = {
    "data": "mnist", "size": 16, "source": "blocks", "block": 4, "threshold": 0.45, "smoothing": 0.0, "width": 16,
    "multipliers": [1, 2, 2], "blocks": 1, "attention": [], "dropout": 0.0,
}  # fmt: skip
TRAINING = {
    "steps": 6000, "batch": 64, "optimizer": "adam", "learning_rate": 2e-3, "schedule": "cosine", "warmup": 100,
    "ema": 0.999, "precision": "32-true",
}  # fmt: skip
GPU = PAPER_SETTINGS.override(
    {
        "images": MNIST, "edges": MNIST | {"source": "edges"},
        "large": MNIST | {"size": 28, "block": 7, "fold": 2, "width": 32, "multipliers": [1, 2]},
        "photos": {"threshold": 0.16, "fold": 2, "width": 32, "multipliers": [1, 2, 2], "blocks": 1, "attention": [],
                   "dropout": 0.0},
        "training": TRAINING, "large_training": TRAINING | {"steps": 4000}, "photo_training": TRAINING,
        "judge_widths": [16, 32, 64], "judge_epochs": 4, "samples": 1000, "swept": 500, "asked": 32,
    }
)  # fmt: skip
CPU = GPU.override(
    {
        "seeds": [0], "control_seeds": [], "large_seeds": [], "photo_seeds": [],
        "training": {"steps": 1500, "ema": 0.998}, "judge_epochs": 2, "samples": 400, "swept": 200,
        "steps_swept": [10, 27, 40], "guidances": [0.0, 1.0], "churns": [0.0, 0.33, 0.7],
    }
)  # fmt: skip
SMOKE = CPU.override(
    {
        "toy_seeds": [0], "toy_paths": 4000, "toy_churns": [0.0, 0.01, 0.33], "toy_steps": [40], "toy_width": 16,
        "toy_training": {"steps": 60, "batch": 64}, "sampler_steps": 6,
        "images": {"data": "digits", "size": 8, "block": 4, "multipliers": [1, 2]},
        "edges": {"data": "digits", "size": 8, "multipliers": [1, 2]},
        "training": {"steps": 20, "batch": 16, "warmup": 5}, "judge_widths": [8, 16], "judge_epochs": 1,
        "samples": 40, "swept": 40, "steps_swept": [3], "guidances": [1.0], "churns": [0.0, 0.33], "asked": 4,
        "answers": 4,
    }
)  # fmt: skip
PRESETS = {"smoke": SMOKE, "cpu": CPU, "gpu": GPU, "paper": PAPER_SETTINGS}
