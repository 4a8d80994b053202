"""What the chapter runs on networks. Each experiment returns all that its figures and claims need."""

from functools import partial
from itertools import product
from typing import NamedTuple

import numpy as np
import torch
from torch.nn.functional import cross_entropy
from torch.nn.utils import vector_to_parameters

from loupe.data import load
from loupe.data.images import Images, standardized
from loupe.experiment import experiment
from loupe.experiment.results import columns
from loupe.networks import alexnet, fully_connected, lenet
from loupe.papers.ph_dimension.experiments import estimated
from loupe.topology import (
    ESTIMATORS,
    DimensionPenalty,
    best_plane,
    lifetime_sum,
    loss_distances,
    pairwise_distances,
    ph_dimension,
    positive_magnitude,
    spanning_tree,
    surrogate_paths,
)
from loupe.training import Batches, TrajectoryRecorder, accuracy, flat_parameters, logits_of, losses_at, train

SUBSET_SEED = 0  # draws the training images, the same for every network


@experiment
def training_path(config, *, seed, device, work):
    """The last iterates of a small network trained by plain SGD, and their shape."""
    path = _train(config, config.path_case, config.image_count, seed, device, work)
    draw = partial(ph_dimension, distances=path.distances, sizes=range(*config.path_sizes))
    return {
        **path.outcome,
        **_roughness(path.distances, config, seed),
        "losses": path.losses,
        "one_draw_dimensions": np.array([draw(legacy_seed=one).dimension for one in range(50)]),
        "edges": spanning_tree(distances=path.distances)[0].astype(np.int32),
        "plane": best_plane(path.distances).astype(np.float32),
    }


@experiment(seeds="fixed_order_seeds")
def fixed_order(config, *, seed, device, work):
    """The same networks with their mini-batches in one fixed order, pass after pass, as in the official code."""
    path = _train(config, config.path_case, config.image_count, seed, device, work, shuffle=False)
    return path.outcome | _roughness(path.distances, config, seed)


@experiment(seeds="grid_seeds")
def gap_grid(config, *, seed, device, work):
    """E3: one run of the grid over learning rates and batch sizes: its gap, its dimension, and what competes with it.

    The seed is the number of the run, which chooses the cell as well.
    """
    cells = list(product(config.grid_cases, config.grid_learning_rates, config.grid_batches))
    case, rate, batch = cells[seed % len(cells)]
    cell = {"learning_rate": rate, "batch": batch}
    path = _train(config, case, config.image_count, seed, device, work, shuffle=config.shuffle, **cell)
    found = {"case": case} | cell | path.outcome
    if path.distances is None:
        return found  # it counts among the runs, and has no dimension
    iterates = (path.recorder.rows[k] for k in path.recorder.order)
    samples = (part[: config.loss_samples] for part in (path.images.x, path.images.y))
    in_losses = loss_distances(losses_at(path.network, iterates, *samples))
    for where, distances in (("", path.distances), ("_in_losses", in_losses)):
        found[f"lifetime_sum{where}"] = lifetime_sum(distances=distances)
        found[f"positive_magnitude{where}"] = positive_magnitude(distances, np.sqrt(len(path.images.x)))
    return {
        **found,
        **_roughness(path.distances, config, seed),
        "dimension_in_losses": _dimension(in_losses, config, seed),
        "final_norm": np.linalg.norm(path.last.astype(np.float64)),
        "diameter": path.distances.max(),
    }


@experiment
def regularised(config, *, seed, device, work):
    """E4: training with the dimension of the latest iterates in the loss, and without, from the same start."""
    images = _images(config.penalty_data, config.penalty_images, device)
    rows = (
        {"weight": one} | _train_regularised(config, one, images, seed, device, work / f"weight-{one}")
        for one in config.penalty_weights
    )
    return {"data": images.name} | columns(rows)


@experiment(seeds="adversarial_seeds")
def adversarial_start(config, *, seed, device, work):
    """E7: training from the weights of a network that has memorized random labels, and from random weights."""

    def arm(name, **options):
        task = (config.adversarial_case, config.adversarial_images, seed, device, work / name)
        return _train(config, *task, learning_rate=config.adversarial_learning_rate, **options)

    def row(name, start):
        path = arm(name, start=start)
        found = path.outcome | _roughness(path.distances, config, seed)
        return {"start": name} | {value: found[value] for value in kept}

    kept = ("converged", "steps", "train_accuracy", "test_accuracy", "train_loss", "test_loss", "dimension")
    memorised = arm("random labels", random_labels=True)
    adversarial, accuracy = memorised.last, memorised.outcome["train_accuracy"]
    del memorised  # and with it its iterates: one run at a time in memory
    rows = [row("random", None), row("adversarial", adversarial)]
    return {"case": config.adversarial_case, "memorised": accuracy} | columns(rows)


# --- training -----------------------------------------------------------------------------------------------


class TrainingPath(NamedTuple):
    """A trained network with its last iterates and, unless it diverged or stood still, the distances between them."""

    network: torch.nn.Module
    images: "Tensors"
    recorder: TrajectoryRecorder
    losses: np.ndarray
    outcome: dict
    distances: np.ndarray | None

    @property
    def last(self):
        """The weights at the end, shape (P,), float32."""
        return np.array(self.recorder.rows[self.recorder.order[-1]])


def _network(kind, images, width):
    """A network by its name in the paper, for images (channels, height, width) of ten classes."""
    if kind in (convolutional := {"alexnet": alexnet, "lenet": lenet}):
        return convolutional[kind](*images.x.shape[1:3])
    hidden = {"fcn-5": [width] * 4, "fcn-7": [width] * 6, "fcn-cifar": [1024, 512, 64, 64]}[kind]
    return fully_connected([images.x[0].numel(), *hidden, 10], bias=kind == "fcn-cifar")


def _train(config, case, count, seed, device, work, shuffle=True, random_labels=False, start=None, **changes):
    """Plain SGD until every training image is classified correctly, and the distances between its last iterates."""
    settings = config.training.model_copy(update=changes)
    name, kind = case.split()
    images = _images(name, count, device, random_labels=random_labels)
    torch.manual_seed(seed)
    network = _network(kind, images, config.width)
    if start is not None:
        vector_to_parameters(torch.from_numpy(start), network.parameters())
    recorder = TrajectoryRecorder(network, config.iterates, work / "iterates")

    def evaluate(network):
        return {"accuracy": accuracy(network, images.x, images.y)}

    def converged(run):
        return run.step >= config.iterates and run.metrics.get("accuracy") == 1

    batches = Batches(images.x, images.y, size=settings.batch, seed=seed, shuffle=shuffle)
    trained = train(
        network, _cross_entropy, batches, settings, seed=seed, device=device, work=work / "run", evaluate=evaluate,
        callbacks=[recorder, converged], may_diverge=True,
    )  # fmt: skip
    diverged = trained.outcome == "diverged"
    outcome = {
        "data": f"{name}, {images.name}",
        "parameters": recorder.rows.shape[1],
        "steps": trained.step,
        "converged": not diverged and bool(trained.history["accuracy"][-1] == 1),
        **_scores(network, images),
    }
    distances = None
    if not diverged:
        distances = pairwise_distances(recorder.rows)[np.ix_(recorder.order, recorder.order)]
        if np.median(distances.diagonal(1)) == 0:
            distances = None  # a network whose units have all died stands still
    return TrainingPath(network, images, recorder, trained.losses, outcome, distances)


def _train_regularised(config, weight, images, seed, device, work):
    """Adam on cross-entropy plus a multiple of the dimension of the latest iterates; all that was measured on the way."""
    torch.manual_seed(seed)
    network = _network(config.penalty_network, images, config.width)
    size = sum(parameter.numel() for parameter in network.parameters())
    penalty = DimensionPenalty(size, window=config.penalty_window, seed=seed, device=device)

    def evaluate(network):
        dimension = np.nan
        if penalty.steps >= penalty.window:
            dimension = estimated(config, penalty.sizes, seed, distances=penalty.distances()).dimension
        return _scores(network, images) | {"dimension": dimension}

    trained = train(
        network, PenalisedLoss(weight, penalty), (images.x, images.y), config.penalty_training,
        seed=seed, device=device, work=work / "run", evaluate=evaluate,
    )  # fmt: skip
    measured = ("train_accuracy", "train_loss", "test_accuracy", "test_loss", "dimension")
    return {"steps": trained.history["step"]} | {name: trained.history[name] for name in measured}


class PenalisedLoss:
    """Cross-entropy on images that are flipped at random, plus a multiple of the dimension of the latest iterates."""

    def __init__(self, weight, penalty):
        self.weight, self.penalty = weight, penalty
        self.state_dict, self.load_state_dict = penalty.state_dict, penalty.load_state_dict

    def __call__(self, network, batch, generator):
        """A scalar; where the weight is zero the iterates are only remembered."""
        x, y = batch
        flip = torch.rand(len(x), 1, 1, 1, generator=generator, device=x.device) < 0.5
        loss = cross_entropy(network(torch.where(flip, x.flip(-1), x)), y)
        weights = flat_parameters(network)
        if not self.weight:
            self.penalty.remember(weights.detach())
            return loss
        dimension = self.penalty(weights)
        # Where the slope is not below 1 the dimension is nan and its gradient zero.
        return loss if dimension is None else loss + self.weight * dimension.nan_to_num()


def _cross_entropy(network, batch, generator):
    return cross_entropy(network(batch[0]), batch[1])


def _scores(network, images):
    """Accuracy and mean cross-entropy of a network on all training and all test images."""
    scores = {}
    for part, x, y in (("train", images.x, images.y), ("test", images.x_test, images.y_test)):
        logits = logits_of(network, x)
        scores[f"{part}_accuracy"] = (logits.argmax(dim=1) == y).double().mean().item()
        scores[f"{part}_loss"] = cross_entropy(logits.double(), y).item()
    return scores


# --- images -------------------------------------------------------------------------------------------------


class Tensors(NamedTuple):
    """Images (n, channels, height, width), float32, normalized by the training part, and labels (n,), int64."""

    name: str
    x: torch.Tensor
    y: torch.Tensor
    x_test: torch.Tensor
    y_test: torch.Tensor


def _images(name, count, device, random_labels=False):
    """Training images, the first after a seeded permutation, and all test images, as tensors on the device."""
    data = _random_images(count) if name == "random" else _load(name, count)
    rng = np.random.default_rng(SUBSET_SEED)
    chosen = rng.permutation(len(data.x_train))[:count]
    labels = rng.integers(len(data.classes), size=len(chosen)) if random_labels else data.y_train[chosen]
    x, x_test = standardized(data.x_train[chosen], data.x_test)
    arrays = (x, labels.astype(np.int64), x_test, data.y_test.astype(np.int64))
    return Tensors(data.variant, *(torch.from_numpy(one).to(device) for one in arrays))


def _load(name, count):
    # CIFAR-10 comes in random order, and reading a part of it is much faster.
    return load(name, train=count) if name == "cifar10" and count < 50_000 else load(name)


def _random_images(count):
    """Generated images with labels that say nothing about them, for trying out the code."""
    rng = np.random.default_rng(SUBSET_SEED)
    x, y = rng.integers(256, size=(2 * count, 32, 32, 3), dtype=np.uint8), rng.integers(10, size=2 * count)
    return Images(x[:count], y[:count], x[count:], y[count:], tuple("0123456789"), "generated noise")


# --- measuring a path ---------------------------------------------------------------------------------------


def _dimension(distances, config, seed):
    return estimated(config, range(*config.path_sizes), seed, distances=distances).dimension


def _roughness(distances, config, seed):
    """Dimensions of a path: by persistent homology, by other estimators, and of null models of its steps."""
    nulls = surrogate_paths(distances, np.random.default_rng(seed))
    return {
        "dimension": _dimension(distances, config, seed),
        "estimator": np.array(list(ESTIMATORS)),
        "estimates": np.array([estimate(distances=distances) for estimate in ESTIMATORS.values()]),
        "null_model": np.array(list(nulls)),
        "null_dimension": np.array([_dimension(changed, config, seed) for changed in nulls.values()]),
        "step_lengths": distances.diagonal(1),
    }
