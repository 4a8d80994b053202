"""What the chapter trains: networks on graphs that differ in one thing, how they average neighbours."""

from dataclasses import dataclass, replace

import numpy as np
import torch

from loupe.data.graph_tasks import link_split, message_edges, node_inputs, training_negatives
from loupe.experiment import experiment
from loupe.experiment.results import columns
from loupe.geometry.networks import GraphEncoder, link_logits, link_loss
from loupe.papers.frechet_mean.experiments import load_graph
from loupe.training import train

DTYPE = torch.float32  # as HGCN does by default, with its margin of 4e-3 to the boundary of the ball

METHODS = {
    "MLP": {"hyperbolic": False},
    "GCN": {"hyperbolic": False, "aggregation": "tangent"},
    "HNN": {},
    "HGCN": {"aggregation": "tangent"},
    "Fréchet": {"aggregation": "frechet"},
}
"""A flat network is a hyperbolic one in flat space; HGCN and ours differ in the aggregation alone."""


@dataclass(frozen=True)
class Setting:
    """What HGCN's commands set for one graph; the same for all methods."""

    dropout: float = 0.0
    weight_decay: float = 0.0
    learn_curvature: bool = False
    normalise: bool = True


SETTINGS = {
    "generated": Setting(normalise=False),
    "disease_lp": Setting(normalise=False),
    "airport": Setting(learn_curvature=True),
    "cora": Setting(dropout=0.5, weight_decay=1e-3, learn_curvature=True),
    "pubmed_partial": Setting(dropout=0.4, weight_decay=1e-4),
}
PAIR = ("HGCN", "Fréchet")
METRICS = ("loss", "validation_loss", "validation_roc", "validation_ap", "test_roc", "test_ap")


@experiment
def disease_links(config, *, seed, device):
    """FM6: link prediction on the disease tree, a graph of hyperbolicity 0."""
    return _links(config, config.disease, seed, device)


@experiment(seeds="airport_seeds")
def airport_links(config, *, seed, device):
    """Link prediction on airport, hyperbolicity 1."""
    return _links(config, "airport", seed, device)


@experiment(seeds="cora_seeds")
def cora_links(config, *, seed, device):
    """FM7: link prediction on Cora, the least hyperbolic graph."""
    return _links(config, "cora", seed, device)


@experiment(seeds="pubmed_seeds")
def pubmed_links(config, *, seed, device):
    """Link prediction on PubMed, from degrees alone: most of its features are not available."""
    return _links(config, "pubmed_partial", seed, device)


def _links(config, name, seed, device):
    return _table(config, config.training, _compared(config, link_task(config, name, seed, device)))


@experiment(seeds="scale_seeds")
def feature_sizes(config, *, seed, device):
    """Beyond the paper: the disease tree with smaller features, which do not begin at the boundary of the ball."""
    rows = []
    for scale in config.feature_scales:
        task = link_task(config, config.disease, seed, device, scale)
        rows += [{"scale": scale} | row for row in _compared(config, task, PAIR)]
    return _table(config, config.training, rows)


@experiment(seeds="scale_seeds")
def without_position(config, *, seed, device):
    """The disease tree without the feature that is the node's place in a drawing of the tree."""
    task = link_task(config, config.disease, seed, device)
    features = task.features.clone()
    features[:, config.position_column] = 0
    return _table(config, config.training, _compared(config, replace(task, features=features), PAIR))


@experiment(seeds="norm_seeds")
def batch_norm(config, *, seed, device):
    """FM9: the hyperbolic network HNN with and without Riemannian batch normalization."""
    rows = []
    for graph in config.norm_graphs:
        task = link_task(config, graph, seed, device)
        for norm in (False, True):
            network = _encoder(config, "HNN", task, batch_norm=norm, evaluate_with="batch")
            rows.append({"graph": graph, "norm": norm} | _curves(config.norm_training, network, task))
    return _table(config, config.norm_training, rows) | {"area": config.norm_area}


# --- training -----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class LinkTask:
    """A graph with held-out edges to train on, as tensors on the device."""

    seed: int
    setting: Setting
    features: torch.Tensor  # (N, F)
    messages: torch.Tensor  # (2, E)
    name: str
    train: torch.Tensor  # (m, 2)
    held_out: dict  # of positive and negative pairs, by "validation" and "test"
    split: object

    def batches(self, step, part, parts):
        drawn = training_negatives(self.split, np.random.default_rng([self.seed, step]))
        return [torch.as_tensor(drawn)]

    def loss(self, network, batch, generator):
        points, space = network(self.features, self.messages), network.manifolds()[-1]
        return link_loss(link_logits(points, self.train, space), link_logits(points, batch[0], space))

    def evaluate(self, network):
        return _link_scores(network(self.features, self.messages), network.manifolds()[-1], self.held_out)


def link_task(config, name, seed, device, scale=1.0):
    """Link prediction on a graph, its features multiplied by ``scale``."""
    graph, setting = load_graph(config, name), SETTINGS[name]
    split = link_split(graph, seed=seed)
    inputs = node_inputs(graph, "link", split.train, normalize=setting.normalise)

    def tensor(array):
        return torch.as_tensor(array, device=device)

    held_out = {
        "validation": (tensor(split.valid), tensor(split.valid_negatives)),
        "test": (tensor(split.test), tensor(split.test_negatives)),
    }
    features, messages = tensor(scale * inputs).to(DTYPE), tensor(message_edges(split.train, graph.num_nodes))
    return LinkTask(seed, setting, features, messages, name, tensor(split.train), held_out, split)


def _compared(config, task, methods=()):
    """A row for each method, those of the settings unless some are given, on one task."""
    return [
        {"graph": task.name, "method": method}
        | _curves(config.training, _encoder(config, method, task), task)
        for method in methods or config.methods
    ]


def _table(config, training, rows):
    """Rows of curves, and what it takes to read them."""
    return columns(rows) | {"check_every": training.every, "patience": config.published_patience}


def _encoder(config, method, task, **options):
    return GraphEncoder(
        [task.features.shape[1], config.width, config.width],
        dropout=task.setting.dropout,
        learn_curvature=task.setting.learn_curvature,
        seed=task.seed,
        dtype=DTYPE,
        **METHODS[method],
        **options,
    ).to(task.features.device)


def _curves(training, network, task):
    """Curves of one run, by metric, nan from where it ended: when its score had not risen for long."""
    training = training.model_copy(update={"weight_decay": task.setting.weight_decay})
    history = train(
        network, task.loss, task.batches, training, seed=task.seed, device=str(task.features.device),
        evaluate=task.evaluate, best=lambda row: -(row["validation_roc"] + row["validation_ap"]),
    ).history  # fmt: skip
    rest = np.full(training.evaluations - len(history["step"]), np.nan)
    return {name: np.concatenate([history[name], rest]) for name in METRICS}


def _link_scores(points, space, held_out):
    from sklearn.metrics import average_precision_score, roc_auc_score  # a second to import

    scores = {}
    for part, (positive, negative) in held_out.items():
        logits = [link_logits(points, pairs, space) for pairs in (positive, negative)]
        truth = np.repeat([1, 0], [len(positive), len(negative)])
        found = torch.cat(logits).cpu().numpy()
        scores |= {
            f"{part}_loss": link_loss(*logits),
            f"{part}_roc": roc_auc_score(truth, found),
            f"{part}_ap": average_precision_score(truth, found),
        }
    return scores
