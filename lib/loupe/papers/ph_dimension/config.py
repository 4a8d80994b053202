"""Settings of the chapter: the defaults are the paper's, or the largest that the book describes.

The paper publishes neither the sizes of its synthetic sets nor its grid, so ``paper`` is our fullest version of them.
"""

from pydantic import Field

from loupe.experiment import Preset


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

    path_data: str = "mnist"
    """data set on which the network of the pictures is trained"""

    path_images: int = Field(60_000, ge=100)
    """training images, the first after a seeded permutation"""

    path_widths: tuple[int, ...] = (784, 200, 200, 200, 200, 10)
    """layer sizes of the fully connected network"""

    path_learning_rate: float = Field(0.1, gt=0)
    """constant learning rate of plain SGD"""

    path_batch: int = Field(32, ge=1)
    """images in a mini-batch"""

    path_iterates: int = Field(1000, ge=100)
    """iterates kept: the last ones before the stop"""

    path_max_steps: int = Field(100_000, ge=100)
    """steps after which a run is stopped if it has not reached 100 % training accuracy"""

    path_sizes: tuple[int, int, int] = (200, 1000, 50)
    """subset sizes of the estimator on the training path: first, end (excluded), step"""


PAPER_SETTINGS = Config()
GPU = PAPER_SETTINGS.override({"path_images": 20_000, "path_max_steps": 20_000})
CPU = GPU.override(
    {
        "identity_points": 1000,
        "cloud_points": 1000,
        "cloud_sizes": [200, 1000, 50],
        "betas": [1.1, 1.2, 1.3, 1.4, 1.5, 1.6, 1.7, 1.8, 1.9, 2.0],
        "process_points": 1000,
        "process_sizes": [200, 1000, 50],
        "path_images": 5000,
        "path_widths": [784, 64, 64, 64, 64, 10],
        "path_max_steps": 6000,
    }
)
SMOKE = CPU.override(
    {
        "seeds": [0, 1],
        "process_seeds": [0, 1],
        "identity_points": 300,
        "clouds": ["circle", "cube_2", "cube_3", "sierpinski", "cantor_set"],
        "cloud_points": 400,
        "cloud_sizes": [100, 351, 50],
        "repeats": 3,
        "embedding_dimension": 1000,
        "betas": [1.2, 1.6, 2.0],
        "process_points": 400,
        "process_sizes": [100, 351, 50],
        "exhaustion": [[400, 1], [1000, 1], [1000, 2]],
        "noise_points": 400,
        "noise_sizes": [100, 351, 50],
        "noise_draws": 20,
        "path_data": "digits",
        "path_images": 1000,
        "path_widths": [64, 32, 32, 10],
        "path_iterates": 300,
        "path_max_steps": 600,
        "path_sizes": [60, 271, 30],
    }
)
PRESETS = {"smoke": SMOKE, "cpu": CPU, "gpu": GPU, "paper": PAPER_SETTINGS}
