"""Settings of the chapter: the defaults are the paper's where it states them, else those of HGCN, which it builds on."""

from typing import Literal

from pydantic import Field, model_validator

from loupe.experiment import Preset
from loupe.training import Training

GraphName = Literal["generated", "disease_lp", "airport", "cora", "pubmed_partial"]
Method = Literal["MLP", "GCN", "HNN", "HGCN", "Fréchet"]


class GraphTraining(Training):
    """How HGCN, and the paper after it, train a network on a graph. A step is an epoch: it sees the whole graph."""

    steps: int = Field(5000, ge=1)
    """steps of the optimizer, each on the whole graph"""
    learning_rate: float = Field(0.01, gt=0)
    """learning rate, which the schedule multiplies"""
    evaluations: int = Field(1000, ge=1)
    """evaluations on validation and test data over the whole run, evenly spaced"""
    patience: int | None = Field(200, ge=1)
    """evaluations without a better one after which training really ends, to see what the published rule missed"""

    @model_validator(mode="after")
    def _evenly_spaced(self):
        if self.steps % self.evaluations:
            raise ValueError(f"evaluations must divide steps, got {self.evaluations} and {self.steps}")
        return self

    @property
    def every(self) -> int:
        """Epochs between evaluations."""
        return self.steps // self.evaluations


class Config(Preset):
    """Settings of ``frechet_mean``."""

    one_seed: tuple[int, ...] = (0,)
    """seed of experiments that repeat inside themselves, or are identities"""

    identity_problems: int = Field(20, ge=2)
    """random problems on which gradients are compared with differences"""

    solver_problems: int = Field(200, ge=2)
    """random problems on which the solver must converge and descend"""

    trials: int = Field(10, ge=3)
    """random problems on which the solvers are compared"""

    study_points: int = Field(10, ge=2)
    """points of each mean in the comparison of solvers"""

    study_dimension: int = Field(10, ge=1)
    """dimension of the comparison of solvers"""

    study_iterations: int = Field(1500, ge=50)
    """iterations that each solver may take in the comparison"""

    tuned_steps: tuple[float, ...] = Field((0.01, 0.03, 0.1, 0.3, 0.5, 0.7), min_length=1)
    """step sizes of which gradient descent gets its best"""

    delta_graphs: tuple[GraphName, ...] = ("disease_lp", "airport", "cora", "pubmed_partial")
    """graphs whose hyperbolicity is measured"""

    delta_samples: int = Field(50_000, ge=100)
    """4-tuples of nodes drawn for the hyperbolicity of a graph"""

    delta_sources: int = Field(4000, ge=10)
    """nodes from which hop distances are counted in a larger graph"""

    tree_nodes: int = Field(2665, ge=20)
    """nodes of the generated disease tree"""

    tree_seed: int = 4
    """seed of the generated disease tree"""

    width: int = Field(16, ge=1)
    """coordinates of each layer's output"""

    training: GraphTraining = GraphTraining()
    """how a network is trained on a graph"""

    published_patience: int = Field(100, ge=1)
    """epochs without a better validation score after which the published rule stops, after as many at least"""

    methods: tuple[Method, ...] = ("MLP", "GCN", "HNN", "HGCN", "Fréchet")
    """methods that are compared on each graph"""

    disease: Literal["disease_lp", "generated"] = "disease_lp"
    """graph of the disease tree: disease_lp, or generated"""

    seeds: tuple[int, ...] = Field(tuple(range(10)), min_length=1)
    """seeds of link prediction on the disease tree: of its split, of weights and of negatives"""

    airport_seeds: tuple[int, ...] = tuple(range(10))
    """seeds of link prediction on airport"""

    cora_seeds: tuple[int, ...] = tuple(range(10))
    """seeds of link prediction on Cora"""

    pubmed_seeds: tuple[int, ...] = tuple(range(10))
    """seeds of link prediction on PubMed by structure alone"""

    scale_seeds: tuple[int, ...] = (1, 2, 3, 4, 5)
    """seeds of link prediction on the disease tree with features of other sizes"""

    feature_scales: tuple[float, ...] = (0.1, 0.3)
    """factors on the features of the disease tree; 1 is the published setting"""

    position_column: int = Field(10, ge=0)
    """feature of the disease tree that is the node's place in a drawing of the tree; set to 0 in one experiment"""

    norm_graphs: tuple[GraphName, ...] = ("disease_lp", "cora", "pubmed_partial")
    """graphs on which batch normalization is compared"""

    norm_seeds: tuple[int, ...] = tuple(range(10))
    """seeds of the comparison of batch normalization"""

    norm_training: GraphTraining = GraphTraining(steps=500, evaluations=100, patience=None)
    """how a network is trained in the comparison of batch normalization"""

    norm_area: int = Field(200, ge=5)
    """first epochs over which the area under the validation curve is taken"""

    @model_validator(mode="after")
    def _sensible(self):
        wait, needed = self.training.patience, self.published_patience
        if wait is not None and wait * self.training.every < needed:
            raise ValueError(f"training must wait for {needed} epochs, the published rule, or longer")
        if self.norm_area > self.norm_training.steps:
            raise ValueError(
                f"norm_area must be at most norm_training.steps, got {self.norm_area} and {self.norm_training.steps}"
            )
        return self


SEEDS = ("seeds", "airport_seeds", "cora_seeds", "pubmed_seeds", "norm_seeds")

PAPER_SETTINGS = Config()
GPU = PAPER_SETTINGS.override(
    {name: [0, 1, 2, 3, 4] for name in SEEDS} | {"norm_graphs": ["disease_lp", "cora"]}
)
CPU = GPU.override({name: [] for name in SEEDS} | {
    "seeds": [0, 1, 2], "norm_seeds": [0, 1, 2], "scale_seeds": [1, 2, 3],
    "training": {"steps": 2500, "evaluations": 500}, "methods": ["HGCN", "Fréchet"], "feature_scales": [0.1],
    "delta_graphs": ["disease_lp", "airport", "cora"], "norm_graphs": ["disease_lp"],
})  # fmt: skip
SMOKE = CPU.override({
    "seeds": [0], "norm_seeds": [0], "scale_seeds": [1],
    "identity_problems": 8, "solver_problems": 40, "trials": 3, "tree_nodes": 120, "delta_samples": 5000,
    "disease": "generated", "delta_graphs": ["generated"], "norm_graphs": ["generated"],
    "training": {"steps": 20, "evaluations": 4}, "norm_training": {"steps": 20, "evaluations": 4}, "norm_area": 10,
})  # fmt: skip
PRESETS = {"smoke": SMOKE, "cpu": CPU, "gpu": GPU, "paper": PAPER_SETTINGS}
