"""Settings of the chapter: the defaults are the paper's, for CIFAR-10."""

from typing import Literal

from pydantic import Field, model_validator

from loupe.experiment import Preset
from loupe.training import Training, warmup


class ScoreTraining(Training):
    """How a score network is trained: the linear schedule falls over all the steps, and to a floor."""

    schedule: Literal["linear"] = "linear"
    """course of the learning rate after the warmup"""

    floor: float = Field(1.0, gt=0, le=1)
    """share of the learning rate that is left at the end"""

    def schedule_factor(self):
        """The factor on the learning rate by the number of the step, from 0."""
        rise = warmup(self.warmup)
        return lambda step: rise(step) * (1 - (1 - self.floor) * step / self.steps)


TOYS = ScoreTraining(steps=3000, batch=512, learning_rate=2e-3, clip=1.0, ema=0.998, floor=0.05)
IMAGES = ScoreTraining(steps=1_300_000, learning_rate=2e-4, warmup=5000, clip=1.0, ema=0.9999, compile=True)


class Config(Preset):
    """Settings of ``reflected_diffusion``."""

    one_seed: tuple[int, ...] = (0,)
    """seed of experiments that repeat inside themselves, or are identities"""

    seeds: tuple[int, ...] = Field((0, 1, 2, 3, 4), min_length=1)
    """seeds of networks in the square: of weights, data and noise"""

    extra_seeds: tuple[int, ...] = (0, 1, 2)
    """seeds of networks on logits, and of networks on the simplex"""

    grey_seeds: tuple[int, ...] = (0, 1, 2)
    """seeds of the networks whose bound is compared with an entropy"""

    image_seeds: tuple[int, ...] = (0, 1, 2)
    """seeds of image networks"""

    bound_seeds: tuple[int, ...] = (0,)
    """seeds of the image network that is trained for its likelihood"""

    sigma_min: float = Field(0.01, gt=0)
    """first noise of networks that are trained for samples"""

    sigma_max: float = Field(5.0, gt=0)
    """last noise"""

    short_sigma: float = Field(1.5, gt=0)
    """noise from which one of the samplers begins, where the distribution is as good as uniform"""

    bound_sigma_min: float = Field(1e-4, gt=0)
    """first noise of networks that are trained for their likelihood"""

    draws: int = Field(200_000, ge=1000)
    """draws from the kernel for each test of its sampler"""

    paths: int = Field(400_000, ge=1000)
    """paths of the reflected process with a drift"""

    path_steps: tuple[int, ...] = Field((8, 16, 32, 64, 128, 256), min_length=3)
    """numbers of steps of a path of the reflected process"""

    toy_width: int = Field(128, ge=4)
    """width of networks in the square"""

    toy_layers: int = Field(3, ge=1)
    """hidden layers of networks in the square"""

    toy_training: ScoreTraining = TOYS
    """training of networks in the square, on fresh points in each step"""

    toy_points: int = Field(5000, ge=50)
    """points that each network in the square draws, and held-out points that they are compared with"""

    toy_sampler_steps: int = Field(100, ge=2)
    """steps of samplers in the square"""

    toy_likelihood_points: int = Field(1000, ge=10)
    """points whose likelihood is computed"""

    grey_times: int = Field(100, ge=1)
    """stratified times for each point of the bound in the square"""

    images: Literal["cifar10", "mnist", "digits"] = "cifar10"
    """image set"""

    image_size: int = Field(32, ge=4)
    """height and width of an image in pixels"""

    flips: bool = True
    """whether images are flipped at random"""

    width: int = Field(128, ge=4)
    """channels of the first level of the U-Net"""

    multipliers: tuple[int, ...] = Field((1, 2, 2, 2), min_length=1)
    """channels of each level in multiples of the first level's"""

    blocks: int = Field(8, ge=1)
    """residual blocks a level"""

    attention: tuple[int, ...] = (16,)
    """sizes in pixels at which positions attend to each other"""

    dropout: float = Field(0.1, ge=0, lt=1)
    """dropout"""

    backbone: Literal["loupe", "diffusers"] = "loupe"
    """whose U-Net"""

    label_drop: float = Field(0.2, ge=0, lt=1)
    """share of labels that training hides"""

    training: ScoreTraining = IMAGES
    """training of image networks"""

    judge: Literal["small", "wide"] = "wide"
    """the classifier whose features samples are compared in: three convolutions, or a wide residual network"""

    judge_widths: tuple[int, ...] = Field((32, 64, 128), min_length=1)
    """channels of the small classifier"""

    judge_epochs: int = Field(10, ge=1)
    """passes over the training images of the classifier"""

    samples: int = Field(50_000, ge=20)
    """images that each sampler draws"""

    sample_batch: int = Field(500, ge=1)
    """images drawn at once"""

    sampler_steps: int = Field(1000, ge=2)
    """steps of the samplers"""

    tolerance: float = Field(1e-5, gt=0)
    """tolerances of the flow, relative and absolute"""

    mollifier: float = Field(200.0, gt=0)
    """width of the mollifier at the walls"""

    weights: tuple[float, ...] = Field((0.0, 1.0, 2.5, 5.0, 10.0), min_length=2)
    """weights of guidance"""

    guided: int = Field(1000, ge=10)
    """images for each weight of guidance"""

    guided_steps: int = Field(1000, ge=2)
    """steps of the guided samplers"""

    likelihood_images: int = Field(10_000, ge=10)
    """test images whose likelihood is computed"""

    bound_times: int = Field(20, ge=1)
    """stratified times for each test image in the bound"""

    @model_validator(mode="after")
    def _sensible(self):
        if not self.sigma_min < self.short_sigma <= self.sigma_max:
            raise ValueError(f"short_sigma must lie between sigma_min and sigma_max, got {self.short_sigma}")
        if not self.bound_sigma_min < self.sigma_max:
            raise ValueError(f"sigma_max must be above bound_sigma_min, got {self.sigma_max}")
        sides = 2 ** (len(self.multipliers) - 1)
        if self.image_size % sides:
            raise ValueError(f"image_size must be a multiple of {sides}, got {self.image_size}")
        return self


PAPER_SETTINGS = Config()
GPU = PAPER_SETTINGS.override(
    {
        "multipliers": [1, 2, 2], "blocks": 2, "dropout": 0.0,
        "training": {"batch": 512, "steps": 2000, "learning_rate": 5e-4, "warmup": 500, "floor": 0.05, "ema": 0.9995,
                     "precision": "bf16-mixed"},
        "samples": 5000, "sampler_steps": 250, "tolerance": 1e-3, "guided": 200, "guided_steps": 250,
        "likelihood_images": 1000,
    }
)  # fmt: skip
CPU = GPU.override(
    {
        "extra_seeds": [0], "image_seeds": [0], "bound_seeds": [],
        "images": "mnist", "image_size": 16, "flips": False, "width": 16, "blocks": 1, "attention": [],
        "training": {"batch": 64, "steps": 2500, "learning_rate": 2e-3, "warmup": 100, "ema": 0.998,
                     "precision": "32-true", "compile": False},
        "judge": "small", "judge_widths": [16, 32, 64], "judge_epochs": 3,
        "samples": 800, "sampler_steps": 100, "guided": 80, "guided_steps": 100, "likelihood_images": 192,
    }
)  # fmt: skip
SMOKE = CPU.override(
    {
        "seeds": [0], "extra_seeds": [], "grey_seeds": [0],
        "draws": 5_000, "paths": 10_000, "path_steps": [8, 16, 32],
        "toy_width": 32, "toy_layers": 2, "toy_training": {"batch": 128, "steps": 40}, "toy_points": 200,
        "toy_sampler_steps": 10, "toy_likelihood_points": 10, "grey_times": 10,
        "images": "digits", "image_size": 8, "width": 16, "multipliers": [1, 2],
        "training": {"batch": 16, "steps": 12, "warmup": 5}, "judge_widths": [8, 16], "judge_epochs": 1,
        "samples": 20, "sample_batch": 50, "sampler_steps": 5, "weights": [0.0, 10.0], "guided": 10, "guided_steps": 5,
        "likelihood_images": 10, "tolerance": 1e-1,
    }
)  # fmt: skip
PRESETS = {"smoke": SMOKE, "cpu": CPU, "gpu": GPU, "paper": PAPER_SETTINGS}
