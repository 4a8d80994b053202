"""What the chapter trains: networks on graphs that differ in one thing, how they average neighbours."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

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
from loupe.training import History, evaluating, fit

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

    rate: float = 0.0  # dropout
    decay: float = 0.0  # weight decay
    learn_curvature: bool = False
    normalise: bool = True


LINK_SETTINGS = {
    "generated": Setting(normalise=False),
    "disease_lp": Setting(normalise=False),
    "airport": Setting(learn_curvature=True),
    "cora": Setting(rate=0.5, decay=1e-3, learn_curvature=True),
    "pubmed_partial": Setting(rate=0.4, decay=1e-4),
}
NODE_SETTINGS = {
    "generated": Setting(normalise=False),
    "disease_nc_structure": Setting(normalise=False),
    # Without the column of the labels, sums of features change their sign from node to node.
    "airport": Setting(normalise=False, learn_curvature=True),
    "cora": Setting(rate=0.2, decay=5e-4),
}
NODE_FRACTIONS = {"airport": (0.70, 0.15, 0.15)}  # others: 30/10/60, balanced


@experiment
def disease_links(config, *, seed, device):
    """FM6: link prediction on the disease tree, a graph of hyperbolicity 0."""
    return _compare_links(config, _link_task(config, config.disease, seed, device), seed)


@experiment(seeds="airport_seeds")
def airport_links(config, *, seed, device):
    """Link prediction on airport, hyperbolicity 1."""
    return _compare_links(config, _link_task(config, "airport", seed, device), seed)


@experiment(seeds="cora_seeds")
def cora_links(config, *, seed, device):
    """FM7: link prediction on Cora, the least hyperbolic graph."""
    return _compare_links(config, _link_task(config, "cora", seed, device), seed)


@experiment(seeds="pubmed_seeds")
def pubmed_links(config, *, seed, device):
    """Link prediction on PubMed, from degrees alone: most of its features cannot be had."""
    return _compare_links(config, _link_task(config, "pubmed_partial", seed, device), seed)


@experiment(seeds="scale_seeds")
def feature_sizes(config, *, seed, device):
    """Beyond the paper: the disease tree with smaller features, which do not begin at the boundary of the ball."""
    found = {"scales": np.array(config.feature_scales)}
    for scale in config.feature_scales:
        task = _link_task(config, config.disease, seed, device, scale)
        compared = _compare_links(config, task, seed, methods=("HGCN", "Fréchet"))
        found |= {f"{scale:g} {name}": value for name, value in compared.items()}
    return found


@experiment(seeds="norm_seeds")
def batch_norm(config, *, seed, device):
    """FM9: the hyperbolic network HNN with and without Riemannian batch normalisation."""
    curves = []
    for graph in config.norm_graphs:
        task = _link_task(config, graph, seed, device)
        for normalised in (False, True):
            network = _encoder(
                config, "HNN", task, LINK_SETTINGS[graph], seed, batch_norm=normalised, evaluate_with="batch"
            )
            curves.append(_train_links(config, network, task, seed, config.norm_epochs))
    curves = np.stack([_padded(curve, config.norm_epochs // config.check_every) for curve in curves])
    shape = (len(config.norm_graphs), 2, *curves.shape[1:])
    return {
        "graphs": np.array(config.norm_graphs),
        "curves": curves.reshape(shape),
        "area": config.norm_area,
    } | _axes(config)


@experiment(seeds="node_seeds")
def node_classes(config, *, seed, device):
    """Node classification on each graph: one layer of each method, and a linear classifier in the tangent space."""
    scores = []
    for graph in config.node_graphs:
        setting, task = NODE_SETTINGS[graph], _node_task(config, graph, seed, device)
        for method in config.methods:
            network = Classifier(_encoder(config, method, task, setting, seed, layers=1), task.classes, seed)
            scores.append(_train_nodes(config, network.to(device), task, setting, seed, device))
    curves = np.stack([_padded(curve, config.epochs // config.check_every) for curve in scores])
    shape = (len(config.node_graphs), len(config.methods), *curves.shape[1:])
    return {
        "graphs": np.array(config.node_graphs),
        "methods": np.array(config.methods),
        "curves": curves.reshape(shape),
    } | _axes(config, NODE_CURVES)


# --- link prediction ----------------------------------------------------------------------------------------

CURVES = ("loss", "validation loss", "validation ROC", "validation AP", "test ROC", "test AP")


@dataclass(frozen=True)
class LinkTask:
    """A graph with held-out edges, as tensors on the device."""

    name: str
    features: torch.Tensor  # (N, F)
    messages: torch.Tensor  # (2, E)
    train: torch.Tensor  # (m, 2)
    held_out: dict  # of positive and negative pairs, by "validation" and "test"
    split: object


def _graph(config, name):
    return disease_tree(config.tree_nodes, config.tree_seed) if name == "generated" else load(name)


def _link_task(config, name, seed, device, scale=1.0):
    graph = _graph(config, name)
    split = link_split(graph, seed=seed)
    inputs = node_inputs(graph, "link", split.train, normalise=LINK_SETTINGS[name].normalise)

    def tensor(array):
        return torch.as_tensor(array, device=device)

    return LinkTask(
        name,
        tensor(scale * inputs).to(DTYPE),
        tensor(message_edges(split.train, graph.num_nodes)),
        tensor(split.train),
        {
            "validation": (tensor(split.valid), tensor(split.valid_negatives)),
            "test": (tensor(split.test), tensor(split.test_negatives)),
        },
        split,
    )


def _encoder(config, method, task, setting, seed, *, layers=2, **options):
    return GraphEncoder(
        [task.features.shape[1], *[config.width] * layers],
        rate=setting.rate,
        learn_curvature=setting.learn_curvature,
        seed=seed,
        dtype=DTYPE,
        **METHODS[method],
        **options,
    ).to(task.features.device)


def _compare_links(config, task, seed, methods=None):
    methods = methods or config.methods
    curves = []
    for method in methods:
        network = _encoder(config, method, task, LINK_SETTINGS[task.name], seed)
        curves.append(_train_links(config, network, task, seed, config.epochs, config.grace))
    return {
        "graph": task.name,
        "methods": np.array(methods),
        "curves": np.stack([_padded(curve, config.epochs // config.check_every) for curve in curves]),
    } | _axes(config)


def _train_links(config, network, task, seed, epochs, grace=None):
    """Curves of one run, shape (evaluations, curves)."""

    def batches(step, part, parts):
        drawn = training_negatives(task.split, np.random.default_rng([seed, step]))
        return [torch.as_tensor(drawn)]

    def loss(network, batch, generator):
        points, space = network(task.features, task.messages), network.manifolds()[-1]
        return link_loss(link_logits(points, task.train, space), link_logits(points, batch[0], space))

    def measure(run):
        with evaluating(network):
            points, space = network(task.features, task.messages), network.manifolds()[-1]
            return _link_scores(points, space, task.held_out) | {"loss": run.losses[run.step - 1]}

    decay, device = LINK_SETTINGS[task.name].decay, task.features.device
    optimiser = torch.optim.Adam(network.parameters(), lr=config.learning_rate, weight_decay=decay)
    history = History(config.check_every, measure)
    enough = _Enough(history, grace, lambda values: values["validation ROC"] + values["validation AP"])
    fit(network, loss, batches, optimiser, steps=epochs, seed=seed, device=device, hooks=[history, enough])
    return np.stack([history.values[name] for name in CURVES], axis=-1)


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


class _Enough:
    """A hook that ends a run whose validation score has not risen for ``grace`` epochs."""

    def __init__(self, history, grace, score):
        self.history, self.grace, self.score = history, grace, score

    def __call__(self, run):
        steps = self.history.steps
        if self.grace is None or not steps or steps[-1] != run.step:
            return False
        values = {name: np.array(row) for name, row in self.history.values.items()}
        return run.step - steps[int(self.score(values).argmax())] >= self.grace


def _padded(curve, evaluations):
    """A curve of a run that ended early, with nan to its full length."""
    full = np.full((evaluations, curve.shape[1]), np.nan)
    full[: len(curve)] = curve
    return full


def _axes(config, names=CURVES):
    return {"names": np.array(names), "check_every": config.check_every, "patience": config.patience}


# --- node classification ------------------------------------------------------------------------------------

NODE_CURVES = ("loss", "validation loss", "validation accuracy", "validation F1", "test accuracy", "test F1")


@dataclass(frozen=True)
class NodeTask:
    """A graph with labelled nodes, as tensors on the device."""

    features: torch.Tensor
    messages: torch.Tensor
    labels: torch.Tensor
    parts: dict  # of node indices, by "training", "validation" and "test"
    classes: int


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
    graph = _graph(config, name)
    if graph.train is not None:
        split = fixed_node_split(graph)
    else:
        fractions = NODE_FRACTIONS.get(name, (0.30, 0.10, 0.60))
        split = node_split(graph, fractions=fractions, balanced=name not in NODE_FRACTIONS, seed=seed)
    inputs = node_inputs(graph, "node", graph.edges, normalise=NODE_SETTINGS[name].normalise)

    def tensor(array):
        return torch.as_tensor(array, device=device)

    return NodeTask(
        tensor(inputs).to(DTYPE),
        tensor(message_edges(graph.edges, graph.num_nodes)),
        tensor(graph.labels),
        {"training": tensor(split.train), "validation": tensor(split.valid), "test": tensor(split.test)},
        int(graph.labels.max()) + 1,
    )


def _train_nodes(config, network, task, setting, seed, device):
    from sklearn.metrics import f1_score

    cross_entropy = nn.functional.cross_entropy
    average = "binary" if task.classes == 2 else "micro"

    def loss(network, batch, generator):
        logits = network(task.features, task.messages)
        return cross_entropy(logits[batch[0]], task.labels[batch[0]])

    def measure(run):
        with evaluating(network):
            logits = network(task.features, task.messages)
        values = {"loss": run.losses[run.step - 1]}
        for part in ("validation", "test"):
            nodes = task.parts[part]
            truth, guess = task.labels[nodes], logits[nodes].argmax(dim=1)
            values |= {
                f"{part} loss": cross_entropy(logits[nodes], truth),
                f"{part} accuracy": (guess == truth).double().mean(),
                f"{part} F1": f1_score(truth.cpu(), guess.cpu(), average=average),
            }
        return values

    optimiser = torch.optim.Adam(network.parameters(), lr=config.learning_rate, weight_decay=setting.decay)
    history = History(config.check_every, measure)
    enough = _Enough(history, config.grace, lambda values: values["validation F1"])
    fit(
        network, loss, lambda step, part, parts: [task.parts["training"]], optimiser,
        steps=config.epochs, seed=seed, device=device, hooks=[history, enough],
    )  # fmt: skip
    return np.stack([history.values[name] for name in NODE_CURVES], axis=-1)
