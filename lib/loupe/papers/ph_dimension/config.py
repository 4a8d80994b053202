"""Settings of the chapter: the defaults are the paper's, or the largest that the book describes.

The paper publishes neither the sizes of its synthetic sets nor its grid, so ``paper`` is our fullest version of them.
"""

from typing import Literal

from pydantic import Field

from loupe.experiment import Preset
from loupe.training import Training


class PathTraining(Training):
    """Plain SGD until every training image is classified correctly, or for this number of steps."""

    steps: int = Field(100_000, ge=1)
    """most steps of the optimizer"""
    batch: int = Field(32, ge=1)
    """samples in a step; the grid has batch sizes of its own"""
    optimizer: Literal["adam", "adamw", "sgd"] = "sgd"
    """optimizer"""
    learning_rate: float = Field(0.1, gt=0)
    """learning rate; the grid and the adversarial start have their own"""
    evaluations: int = Field(1000, ge=1)
    """evaluations on all training images over the most steps, evenly spaced; the run ends at one of them"""


class PenaltyTraining(Training):
    """Adam with the dimension of the last iterates in the loss (200 passes in the paper's code)."""

    steps: int = Field(100_000, ge=1)
    """steps of the optimizer"""
    batch: int = Field(100, ge=1)
    """samples in a step"""
    evaluations: int = Field(200, ge=1)
    """evaluations over the whole run, evenly spaced"""


class Config(Preset):
    """Settings of ``ph_dimension``."""

    seeds: tuple[int, ...] = Field((0, 1, 2, 3, 4), min_length=1)
    """seeds of clouds and training runs"""

    process_seeds: tuple[int, ...] = tuple(range(20))
    """seeds of the diffusion processes"""

    one_seed: tuple[int, ...] = (0,)
    """seed of the experiments that repeat inside themselves, or are identities"""

    identity_points: int = Field(2000, ge=50)
    """points in each cloud on which the routes to H0 are compared"""

    clouds: tuple[str, ...] = (
        "circle", "cube_1", "sphere", "flat_torus", "torus", "cube_2", "swiss_roll", "gaussian_plane", "cube_3",
        "cube_5", "cube_10", "sierpinski", "cantor_set", "cantor_dust",
    )  # fmt: skip
    """clouds of known dimension"""

    cloud_points: int = Field(5000, ge=100)
    """points in a cloud"""

    cloud_sizes: tuple[int, int, int] = (1000, 5000, 500)
    """subset sizes of the estimator on clouds: first, end (excluded), step"""

    repeats: int = Field(20, ge=1)
    """subsets drawn at each size"""

    embedding_dimension: int = Field(10_000, ge=3)
    """ambient dimension into which the Gaussian plane is embedded isometrically"""

    betas: tuple[float, ...] = tuple(round(1.0 + k / 20, 2) for k in range(1, 21))
    """stable indices of the diffusion processes"""

    process_points: int = Field(5000, ge=100)
    """points on a path of a diffusion process"""

    process_dimension: int = Field(10, ge=1)
    """ambient dimension of the diffusion processes"""

    process_sizes: tuple[int, int, int] = (1000, 5000, 500)
    """subset sizes of the estimator on diffusion processes: first, end (excluded), step"""

    exhaustion: tuple[tuple[int, int], ...] = ((1000, 1), (5000, 1), (5000, 5))
    """Brownian paths on which subset sizes are compared: points of the path, and factor on ``noise_sizes``"""

    noise_points: int = Field(1000, ge=100)
    """points in the one fixed cloud that is measured again and again"""

    noise_sizes: tuple[int, int, int] = (200, 1000, 50)
    """subset sizes of the estimator on that cloud, and before the factor on Brownian paths"""

    noise_draws: int = Field(200, ge=10)
    """estimates on that cloud, for the spread of a single one"""

    image_count: int = Field(60_000, ge=100)
    """training images, the first after a seeded permutation; the same for every network"""

    width: int = Field(200, ge=2)
    """width of the hidden layers of fully connected networks"""

    iterates: int = Field(1000, ge=100)
    """iterates kept of each network: the last ones before the stop"""

    path_sizes: tuple[int, int, int] = (200, 1000, 50)
    """subset sizes of the estimator on iterates: first, end (excluded), step"""

    training: PathTraining = PathTraining()
    """training by plain SGD; learning rate and batch size are those of the paper's figures"""

    path_case: str = "mnist fcn-5"
    """data set and network of the pictures"""

    grid_cases: tuple[str, ...] = ("mnist fcn-5", "mnist fcn-7", "cifar10 alexnet")
    """data sets and networks of the grid"""

    grid_learning_rates: tuple[float, ...] = (0.005, 0.0091, 0.0166, 0.0302, 0.0549, 0.1)
    """learning rates of the grid"""

    grid_batches: tuple[int, ...] = (32, 77, 122, 166, 211, 256)
    """batch sizes of the grid"""

    grid_seeds: tuple[int, ...] = tuple(range(108))
    """runs of the grid: run k has cell k modulo the number of cells, and is its own seed"""

    loss_samples: int = Field(1000, ge=10)
    """training images on which the losses of each iterate are compared"""

    shuffle: bool = True
    """whether mini-batches are drawn again in each pass (the official code takes the images in one fixed order)"""

    fixed_order_seeds: tuple[int, ...] = (0, 1, 2, 3, 4)
    """seeds of the comparison with mini-batches in one fixed order"""

    penalty_data: str = "cifar10"
    """data set of the regularizer"""

    penalty_network: str = "lenet"
    """network of the regularizer"""

    penalty_images: int = Field(50_000, ge=100)
    """training images of the regularizer"""

    penalty_weights: tuple[float, ...] = (0.0, 0.5)
    """weights of the dimension in the loss, the first as the baseline"""

    penalty_window: int = Field(100, ge=40)
    """iterates whose dimension is penalized"""

    penalty_training: PenaltyTraining = PenaltyTraining()
    """training with the regularizer"""

    adversarial_seeds: tuple[int, ...] = (0, 1, 2, 3, 4)
    """seeds of the runs from adversarial and from random initialisations"""

    adversarial_case: str = "cifar10 fcn-cifar"
    """data set and network of the adversarial initialisation"""

    adversarial_learning_rate: float = Field(0.02, gt=0)
    """constant learning rate of plain SGD from adversarial and from random initialisations"""

    adversarial_images: int = Field(5000, ge=100)
    """training images of the adversarial initialisation, whose labels are first drawn at random"""


PAPER_SETTINGS = Config()
GPU = PAPER_SETTINGS.override({
    "image_count": 20_000, "training": {"steps": 20_000, "evaluations": 200},
    "penalty_training": {"steps": 10_000, "evaluations": 100}, "adversarial_case": "cifar10 fcn-5",
})  # fmt: skip
CPU = GPU.override({
    "identity_points": 1000, "cloud_points": 1000, "cloud_sizes": [200, 1000, 50],
    "betas": [1.1, 1.2, 1.3, 1.4, 1.5, 1.6, 1.7, 1.8, 1.9, 2.0], "process_points": 1000, "process_sizes": [200, 1000, 50],
    "image_count": 5000, "width": 64, "training": {"steps": 6000, "evaluations": 60},
    "grid_cases": ["mnist fcn-5"], "grid_learning_rates": [0.02, 0.05, 0.1, 0.2], "grid_batches": [16, 32, 64, 128],
    "grid_seeds": list(range(32)), "penalty_images": 2000, "penalty_training": {"steps": 600, "evaluations": 12},
    "adversarial_seeds": [],
})  # fmt: skip
SMOKE = CPU.override({
    "seeds": [0], "process_seeds": [0, 1], "grid_seeds": [0, 1, 2, 3], "fixed_order_seeds": [],
    "identity_points": 300, "clouds": ["circle", "cube_2", "cube_3", "sierpinski", "cantor_set"],
    "cloud_points": 400, "cloud_sizes": [100, 351, 50], "repeats": 3, "embedding_dimension": 1000,
    "betas": [1.2, 1.6, 2.0], "process_points": 400, "process_sizes": [100, 351, 50],
    "exhaustion": [[400, 1], [1000, 1], [1000, 2]], "noise_points": 400, "noise_sizes": [100, 351, 50], "noise_draws": 20,
    "image_count": 1000, "width": 32, "iterates": 300, "path_sizes": [60, 271, 30], "loss_samples": 200,
    "training": {"steps": 600, "evaluations": 6}, "path_case": "digits fcn-5",
    "grid_cases": ["digits fcn-5"], "grid_learning_rates": [0.1, 0.2], "grid_batches": [16, 64],
    "penalty_data": "random", "penalty_images": 100, "penalty_window": 40,
    "penalty_training": {"steps": 60, "batch": 20, "evaluations": 3},
})  # fmt: skip
PRESETS = {"smoke": SMOKE, "cpu": CPU, "gpu": GPU, "paper": PAPER_SETTINGS}
