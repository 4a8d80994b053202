"""Settings of the chapter: the defaults are those of the published code."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from loupe.experiment import Preset
from loupe.training import Training


class ChargedTraining(Training):
    """Training on charged particles. The state with the least validation error at the end of the window is kept."""

    steps: int = Field(150_000, ge=1)
    """steps of Adam"""
    batch: int = Field(100, ge=1)
    """systems in a step"""
    learning_rate: float = Field(1e-4, gt=0)
    """learning rate"""
    weight_decay: float = Field(1e-8, ge=0)
    """weight decay, added to the gradient"""
    evaluations: int = Field(1000, ge=1)
    """evaluations on the validation part, evenly spaced"""
    patience: int | None = Field(50, ge=1)
    """evaluations without a better one after which the run ends"""


class MotionTraining(ChargedTraining):
    """Training on people who walk and run."""

    steps: int = Field(34_000, ge=1)
    """steps of Adam"""
    batch: int = Field(12, ge=1)
    """windows in a step"""
    learning_rate: float = Field(5e-4, gt=0)
    """learning rate"""
    weight_decay: float = Field(1e-10, ge=0)
    """weight decay, added to the gradient"""
    evaluations: int = Field(400, ge=1)
    """evaluations on the validation part, evenly spaced"""


class MoleculeTraining(ChargedTraining):
    """Training on molecules, to the last step."""

    steps: int = Field(25_000, ge=1)
    """steps of Adam"""
    weight_decay: float = Field(1e-15, ge=0)
    """weight decay, added to the gradient"""
    schedule: Literal["constant", "cosine", "linear", "halved"] = "halved"
    """course of the learning rate; halved: once, after half of the steps"""
    patience: int | None = Field(None, ge=1)
    """evaluations without a better one after which the run ends; null waits for the last step"""


class Config(Preset):
    """Settings of ``egno``."""

    one_seed: tuple[int, ...] = (0,)
    """seed of what is exact, and of what reads data only"""

    seeds: tuple[int, ...] = Field((0, 1, 2), min_length=1)
    """seeds of networks for charged particles: of weights and batches; the data are the same"""

    size_seeds: tuple[int, ...] = (0, 1, 2)
    """seeds of networks trained on fewer or more systems"""

    ablation_seeds: tuple[int, ...] = (0, 1, 2)
    """seeds of networks with a part changed"""

    motion_seeds: tuple[int, ...] = (0, 1, 2)
    """seeds of networks for people who walk and run"""

    molecule_seeds: tuple[int, ...] = (0,)
    """seeds of networks for ethanol"""

    aspirin_seeds: tuple[int, ...] = (0,)
    """seeds of networks for aspirin"""

    systems: int = Field(3000, ge=20)
    """charged systems for training"""

    valid_systems: int = Field(2000, ge=10)
    """charged systems that choose among the states of a training run"""

    test_systems: int = Field(2000, ge=10)
    """charged systems that errors are measured on"""

    slices: Literal[2, 5, 10] = 5
    """times in a window of charged particles and of people, P"""

    modes: int = Field(2, ge=1)
    """frequencies of temporal convolutions, I"""

    width: int = Field(64, ge=4)
    """width of networks for charged particles, H"""

    layers: int = Field(4, ge=1)
    """layers of networks for charged particles, L"""

    training: ChargedTraining = ChargedTraining()
    """training on charged particles"""

    sizes: tuple[Annotated[int, Field(ge=20)], ...] = (1000, 10_000)
    """other numbers of systems for training"""

    size_steps: int = Field(150_000, ge=1)
    """training steps of networks with other numbers of systems"""

    ablation_width: int = Field(64, ge=4)
    """width of networks with a part changed"""

    ablation_layers: int = Field(4, ge=1)
    """layers of networks with a part changed"""

    ablation_steps: int = Field(150_000, ge=1)
    """training steps of networks with a part changed"""

    motion_width: int = Field(128, ge=4)
    """width of networks for people"""

    motion_layers: int = Field(6, ge=1)
    """layers of networks for people"""

    motion_training: MotionTraining = MotionTraining()
    """training on people"""

    molecule_width: int = Field(64, ge=4)
    """width of networks for molecules"""

    molecule_layers: int = Field(5, ge=1)
    """layers of networks for molecules"""

    molecule_slices: int = Field(8, ge=2)
    """times in a window of a molecule"""

    molecule_frames: int = Field(320, ge=8)
    """frames of 2.5 fs in such a window"""

    molecule_windows: int = Field(500, ge=10)
    """windows for training"""

    molecule_training: MoleculeTraining = MoleculeTraining()
    """training on molecules"""

    shown: tuple[Literal["charged", "run", "walk", "ethanol"], ...] = ("charged", "run", "walk", "ethanol")
    """data whose spectra are shown"""

    @model_validator(mode="after")
    def _check(self):
        most = min(self.slices, self.molecule_slices) // 2 + 1
        if self.modes > most:
            raise ValueError(
                f"modes={self.modes} must be at most {most}, half the slices and one, rounded down"
            )
        if self.molecule_frames % self.molecule_slices:
            raise ValueError(
                f"molecule_frames={self.molecule_frames} must be a multiple of molecule_slices={self.molecule_slices}"
            )
        if self.molecule_frames < 2 * self.slices:
            raise ValueError(
                f"molecule_frames={self.molecule_frames} must be at least twice slices={self.slices}"
            )
        return self


PAPER_SETTINGS = Config()
GPU = PAPER_SETTINGS.override({
    "size_seeds": [0], "size_steps": 20_000, "ablation_seeds": [0], "ablation_steps": 15_000,
    "training": {"steps": 20_000, "learning_rate": 1e-3, "schedule": "cosine", "evaluations": 50},
    "motion_training": {"steps": 12_000, "schedule": "cosine", "evaluations": 60},
    "molecule_training": {"steps": 10_000, "learning_rate": 1e-3, "schedule": "cosine", "evaluations": 50},
})  # fmt: skip
CPU = GPU.override({
    "seeds": [0, 1], "motion_seeds": [0], "aspirin_seeds": [],
    "systems": 1000, "valid_systems": 500, "test_systems": 1000, "sizes": [200], "size_steps": 1800,
    "ablation_width": 32, "ablation_layers": 3, "ablation_steps": 600, "motion_width": 64, "motion_layers": 4,
    "training": {"steps": 1800, "evaluations": 15},
    "motion_training": {"steps": 600, "learning_rate": 1e-3, "evaluations": 10},
    "molecule_training": {"steps": 600, "evaluations": 12},
})  # fmt: skip
SMOKE = CPU.override({
    "seeds": [0], "motion_seeds": [], "molecule_seeds": [], "shown": ["charged"],
    "systems": 150, "valid_systems": 30, "test_systems": 40, "sizes": [50], "size_steps": 10,
    "width": 16, "layers": 2, "ablation_width": 8, "ablation_layers": 1, "ablation_steps": 4,
    "training": {"steps": 60, "batch": 50, "evaluations": 3},
})  # fmt: skip
PRESETS = {"smoke": SMOKE, "cpu": CPU, "gpu": GPU, "paper": PAPER_SETTINGS}
