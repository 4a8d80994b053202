"""What the chapter trains: networks on graphs that differ in one thing, how they average neighbours."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from loupe.data import load
from loupe.data.graph_tasks import (
    disease_tree,
    fixed_node_split,
    link_split,
    message_edges,
    node_inputs,
    node_split,
    training_negatives,
)
from loupe.experiment import experiment
from loupe.geometry.networks import GraphEncoder, link_logits, link_loss
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


LINK_SETTINGS = {
    "generated": Setting(normalise=False),
    "disease_lp": Setting(normalise=False),
    "airport": Setting(learn_curvature=True),
    "cora": Setting(dropout=0.5, weight_decay=1e-3, learn_curvature=True),
    "pubmed_partial": Setting(dropout=0.4, weight_decay=1e-4),
}
NODE_SETTINGS = {
    "generated": Setting(normalise=False),
    "disease_nc_structure": Setting(normalise=False),
    # Without the column of the labels, sums of features change their sign from node to node.
    "airport": Setting(normalise=False, learn_curvature=True),
    "cora": Setting(dropout=0.2, weight_decay=5e-4),
}
NODE_FRACTIONS = {"airport": (0.70, 0.15, 0.15)}  # others: 30/10/60, balanced

CURVES = ("loss", "validation loss", "validation ROC", "validation AP", "test ROC", "test AP")
NODE_CURVES = ("loss", "validation loss", "validation accuracy", "validation F1", "test accuracy", "test F1")


@experiment
def disease_links(config, *, seed, device):
    """FM6: link prediction on the disease tree, a graph of hyperbolicity 0."""
    return compare_links(config, link_task(config, config.disease, seed, device))


@experiment(seeds="airport_seeds")
def airport_links(config, *, seed, device):
    """Link prediction on airport, hyperbolicity 1."""
    return compare_links(config, link_task(config, "airport", seed, device))


@experiment(seeds="cora_seeds")
def cora_links(config, *, seed, device):
    """FM7: link prediction on Cora, the least hyperbolic graph."""
    return compare_links(config, link_task(config, "cora", seed, device))


@experiment(seeds="pubmed_seeds")
def pubmed_links(config, *, seed, device):
    """Link prediction on PubMed, from degrees alone: most of its features are not available."""
    return compare_links(config, link_task(config, "pubmed_partial", seed, device))


@experiment(seeds="scale_seeds")
def feature_sizes(config, *, seed, device):
    """Beyond the paper: the disease tree with smaller features, which do not begin at the boundary of the ball."""
    found = {"scales": np.array(config.feature_scales)}
    for scale in config.feature_scales:
        task = link_task(config, config.disease, seed, device, scale)
        compared = compare_links(config, task, methods=("HGCN", "Fréchet"))
        found |= {f"{scale:g} {name}": value for name, value in compared.items()}
    return found


@experiment(seeds="norm_seeds")
def batch_norm(config, *, seed, device):
    """FM9: the hyperbolic network HNN with and without Riemannian batch normalization."""
    curves = []
    for graph in config.norm_graphs:
        task = link_task(config, graph, seed, device)
        for batch_norm in (False, True):
            network = _encoder(config, "HNN", task, batch_norm=batch_norm, evaluate_with="batch")
            curves.append(_curves(config.norm_training, network, task))
    curves = np.stack(curves).reshape(len(config.norm_graphs), 2, *curves[0].shape)
    compared = {"graphs": np.array(config.norm_graphs), "curves": curves, "area": config.norm_area}
    return compared | _axes(config, config.norm_training)


@experiment(seeds="node_seeds")
def node_classes(config, *, seed, device):
    """Node classification on each graph: one layer of each method, and a linear classifier in the tangent space."""
    curves = []
    for graph in config.node_graphs:
        task = _node_task(config, graph, seed, device)
        for method in config.methods:
            network = Classifier(_encoder(config, method, task, layers=1), task.classes, seed)
            curves.append(_curves(config.training, network, task))
    return {
        "graphs": np.array(config.node_graphs),
        "methods": np.array(config.methods),
        "curves": np.stack(curves).reshape(len(config.node_graphs), len(config.methods), *curves[0].shape),
    } | _axes(config, config.training, NODE_CURVES)


def _axes(config, training, names=CURVES):
    patience = config.published_patience
    return {"names": np.array(names), "check_every": training.every, "patience": patience}


def load_graph(config, name):
    """A graph by name; ``generated`` is the disease tree of the settings."""
    return disease_tree(config.tree_nodes, config.tree_seed) if name == "generated" else load(name)


def _encoder(config, method, task, *, layers=2, **options):
    return GraphEncoder(
        [task.features.shape[1], *[config.width] * layers],
        dropout=task.setting.dropout,
        learn_curvature=task.setting.learn_curvature,
        seed=task.seed,
        dtype=DTYPE,
        **METHODS[method],
        **options,
    ).to(task.features.device)


def _curves(training, network, task):
    """Curves of one run, ``(evaluations, curves)``, nan from where it ended: when its score had not risen for long."""
    training = training.model_copy(update={"weight_decay": task.setting.weight_decay})
    history = train(
        network, task.loss, task.batches, training, seed=task.seed, device=str(task.features.device),
        evaluate=task.evaluate, best=lambda row: -sum(row[name] for name in task.counts),
    ).history  # fmt: skip
    curves = np.full((training.evaluations, len(task.curves)), np.nan)
    curves[: len(history["step"])] = np.stack([history[name] for name in task.curves], axis=-1)
    return curves


@dataclass(frozen=True)
class Task:
    """A graph to train on, as tensors on the device."""

    seed: int
    setting: Setting
    features: torch.Tensor  # (N, F)
    messages: torch.Tensor  # (2, E)


# --- link prediction ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class LinkTask(Task):
    """A graph with held-out edges."""

    name: str
    train: torch.Tensor  # (m, 2)
    held_out: dict  # of positive and negative pairs, by "validation" and "test"
    split: object
    curves = CURVES
    counts = ("validation ROC", "validation AP")  # what training waits for

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
    graph, setting = load_graph(config, name), LINK_SETTINGS[name]
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


def compare_links(config, task, methods=None):
    """Curves of methods, those of the settings unless some are given, on one task."""
    methods = methods or config.methods
    curves = [_curves(config.training, _encoder(config, method, task), task) for method in methods]
    compared = {"graph": task.name, "methods": np.array(methods), "curves": np.stack(curves)}
    return compared | _axes(config, config.training)


def _link_scores(points, space, held_out):
    from sklearn.metrics import average_precision_score, roc_auc_score  # a second to import

    scores = {}
    for part, (positive, negative) in held_out.items():
        logits = [link_logits(points, pairs, space) for pairs in (positive, negative)]
        truth = np.repeat([1, 0], [len(positive), len(negative)])
        found = torch.cat(logits).cpu().numpy()
        scores |= {
            f"{part} loss": link_loss(*logits),
            f"{part} ROC": roc_auc_score(truth, found),
            f"{part} AP": average_precision_score(truth, found),
        }
    return scores


# --- node classification ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class NodeTask(Task):
    """A graph with labeled nodes."""

    labels: torch.Tensor
    parts: dict  # of node indices, by "training", "validation" and "test"
    classes: int
    curves = NODE_CURVES
    counts = ("validation F1",)

    def batches(self, step, part, parts):
        return [self.parts["training"]]

    def loss(self, network, batch, generator):
        logits = network(self.features, self.messages)
        return cross_entropy(logits[batch[0]], self.labels[batch[0]])

    def evaluate(self, network):
        from sklearn.metrics import f1_score

        logits, values = network(self.features, self.messages), {}
        for part in ("validation", "test"):
            nodes = self.parts[part]
            truth, guess = self.labels[nodes], logits[nodes].argmax(dim=1)
            values |= {
                f"{part} loss": cross_entropy(logits[nodes], truth),
                f"{part} accuracy": (guess == truth).double().mean(),
                f"{part} F1": f1_score(
                    truth.cpu(), guess.cpu(), average="binary" if self.classes == 2 else "micro"
                ),
            }
        return values


class Classifier(nn.Module):
    """An encoder, the logarithm at the origin, and a linear map to logits."""

    def __init__(self, encoder, classes, seed):
        super().__init__()
        self.encoder = encoder
        self.head = nn.Linear(encoder.linears[-1].weight.shape[0], classes, dtype=DTYPE)
        nn.init.xavier_uniform_(self.head.weight, generator=torch.Generator().manual_seed(seed + 1))
        nn.init.zeros_(self.head.bias)

    def forward(self, features, edges):
        points = self.encoder(features, edges)
        return self.head(self.encoder.manifolds()[-1].log0(points))


def _node_task(config, name, seed, device):
    graph, setting = load_graph(config, name), NODE_SETTINGS[name]
    if graph.train is not None:
        split = fixed_node_split(graph)
    else:
        fractions = NODE_FRACTIONS.get(name, (0.30, 0.10, 0.60))
        split = node_split(graph, fractions=fractions, balanced=name not in NODE_FRACTIONS, seed=seed)
    inputs = node_inputs(graph, "node", graph.edges, normalize=setting.normalise)
    parts = {"training": split.train, "validation": split.valid, "test": split.test}
    return NodeTask(
        seed,
        setting,
        torch.as_tensor(inputs, device=device).to(DTYPE),
        torch.as_tensor(message_edges(graph.edges, graph.num_nodes), device=device),
        torch.as_tensor(graph.labels, device=device),
        {part: torch.as_tensor(nodes, device=device) for part, nodes in parts.items()},
        int(graph.labels.max()) + 1,
    )
