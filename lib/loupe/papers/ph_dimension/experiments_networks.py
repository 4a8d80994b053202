"""What the chapter runs on networks. Each experiment returns all that its figures and claims need."""

from itertools import product
from typing import NamedTuple

import numpy as np
import torch
from torch.nn.functional import cross_entropy
from torch.nn.utils import vector_to_parameters

from loupe.data import load
from loupe.data.images import Images
from loupe.experiment import experiment
from loupe.networks import alexnet, fully_connected, lenet
from loupe.topology import (
    ESTIMATORS,
    DimensionPenalty,
    lifetime_sum,
    loss_distances,
    pairwise_distances,
    persistence_diagrams,
    ph_dimension,
    positive_magnitude,
    spanning_tree,
    surrogate_paths,
)
from loupe.training import Batches, TrajectoryRecorder, accuracy, flat_parameters, logits_of, train

PICTURE_POINTS = 250  # rows of the distance matrix that is stored for the pictures of one run
GRID_PICTURE_POINTS = 100  # and of each run of the grid
SUBSET_SEED = 0  # draws the training images, the same for every network


@experiment
def training_path(config, *, seed, device, work):
    """The last iterates of a small network trained by plain SGD, and their shape."""
    path = _train(config, config.path_case, config.image_count, seed, device, work)
    edges, lengths = spanning_tree(distances=path.distances)
    sizes = range(*config.path_sizes)
    one_draws = [
        ph_dimension(distances=path.distances, sizes=sizes, legacy_seed=s).dimension for s in range(50)
    ]
    return {
        **path.outcome,
        **_roughness(path.distances, config, seed),
        **_pictures(path.distances, PICTURE_POINTS),
        "losses": path.losses,
        "one_draw_dimensions": np.array(one_draws),
        "edges": edges.astype(np.int32),
        "lengths": lengths,
        "plane": _best_plane(path.distances).astype(np.float32),
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
    options = {"learning_rate": rate, "batch": batch, "shuffle": config.shuffle}
    path = _train(config, case, config.image_count, seed, device, work, **options)
    cell = {"case": case, "learning_rate": rate, "batch": batch}
    if path.distances is None:
        return cell | path.outcome  # it counts among the runs, and has no dimension
    in_losses = loss_distances(_losses_of_iterates(path, config.loss_samples))
    scale = np.sqrt(len(path.images.x))
    settings = {"sizes": range(*config.path_sizes), "repeats": config.repeats, "seed": seed}
    return {
        **cell,
        **path.outcome,
        **_roughness(path.distances, config, seed),
        **_pictures(path.distances, GRID_PICTURE_POINTS),
        "dimension_in_losses": ph_dimension(distances=in_losses, **settings).dimension,
        "lifetime_sum": lifetime_sum(distances=path.distances),
        "lifetime_sum_in_losses": lifetime_sum(distances=in_losses),
        "positive_magnitude": positive_magnitude(path.distances, scale),
        "positive_magnitude_in_losses": positive_magnitude(in_losses, scale),
        "final_norm": np.linalg.norm(path.last.astype(np.float64)),
        "diameter": path.distances.max(),
    }


@experiment
def regularised(config, *, seed, device, work):
    """E4: training with the dimension of the latest iterates in the loss, and without, from the same start."""
    images = _images(config.penalty_data, config.penalty_images, device)
    arms = [
        _train_regularised(config, weight, images, seed, device, work / f"weight-{weight}")
        for weight in config.penalty_weights
    ]
    return {
        "data": images.name,
        "weights": np.array(config.penalty_weights),
        **{name: np.array([arm[name] for arm in arms]) for name in arms[0]},
    }


@experiment(seeds="adversarial_seeds")
def adversarial_start(config, *, seed, device, work):
    """E7: training from the weights of a network that has memorized random labels, and from random weights."""

    def arm(name, **options):
        task = (config.adversarial_case, config.adversarial_images)
        options["learning_rate"] = config.adversarial_learning_rate
        return _train(config, *task, seed, device, work / name, **options)

    memorised = arm("random labels", random_labels=True)
    starts = {"random": None, "adversarial": memorised.last}
    memorised_accuracy = memorised.outcome["train_accuracy"]
    del memorised  # and with it its iterates: one run at a time in memory
    outcomes = []
    for name, start in starts.items():
        path = arm(name, start=start)
        outcomes.append(path.outcome | _roughness(path.distances, config, seed))
        del path
    kept = ("converged", "steps", "train_accuracy", "test_accuracy", "train_loss", "test_loss", "dimension")
    return {
        "case": config.adversarial_case,
        "starts": np.array(list(starts)),
        "memorised": memorised_accuracy,
        **{name: np.array([outcome[name] for outcome in outcomes]) for name in kept},
    }


# --- training -----------------------------------------------------------------------------------------------


class TrainingPath(NamedTuple):
    """A trained network with its last iterates: ``rows[order]`` is in the order of time.

    A run that diverged, or stood still, has no distances.
    """

    network: torch.nn.Module
    images: "Tensors"
    rows: np.ndarray
    order: np.ndarray | None
    losses: np.ndarray
    outcome: dict
    distances: np.ndarray | None

    @property
    def last(self):
        """The weights at the end, shape (P,), float32."""
        return np.array(self.rows[self.order[-1]])


def _network(kind, images, width):
    """A network by its name in the paper, for images (channels, height, width) of ten classes."""
    channels, size, _ = images.x.shape[1:]
    inputs = images.x[0].numel()
    networks = {
        "fcn-5": lambda: fully_connected([inputs, *[width] * 4, 10]),
        "fcn-7": lambda: fully_connected([inputs, *[width] * 6, 10]),
        "fcn-cifar": lambda: fully_connected([inputs, 1024, 512, 64, 64, 10], bias=True),
        "alexnet": lambda: alexnet(channels, size),
        "lenet": lambda: lenet(channels, size),
    }
    return networks[kind]()


def _train(
    config, case, count, seed, device, work, *, shuffle=True, random_labels=False,
    start=None, **changes,
):  # fmt: skip
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

    order = {"size": settings.batch, "seed": seed, "shuffle": shuffle}
    trained = train(
        network, _cross_entropy, Batches(images.x, images.y, **order), settings, seed=seed,
        device=device, work=work / "run", evaluate=evaluate, callbacks=[recorder, converged],
        may_diverge=True,
    )  # fmt: skip
    diverged = trained.outcome == "diverged"
    outcome = {
        "data": f"{name}, {images.name}",
        "parameters": recorder.rows.shape[1],
        "steps": trained.step,
        "converged": not diverged and bool(trained.history["accuracy"][-1] == 1),
        **_scores(network, images),
    }
    order = distances = None
    if not diverged:
        order = recorder.order
        distances = pairwise_distances(recorder.rows)[np.ix_(order, order)]
        if np.median(distances.diagonal(1)) == 0:
            distances = None  # a network whose units have all died stands still
    path = (recorder.rows, order, trained.losses, outcome, distances)
    return TrainingPath(network, images, *path)


def _train_regularised(config, weight, images, seed, device, work):
    """Adam on cross-entropy plus a multiple of the dimension of the latest iterates; all that was measured on the way."""
    torch.manual_seed(seed)
    network = _network(config.penalty_network, images, config.width)
    size = sum(parameter.numel() for parameter in network.parameters())
    penalty = DimensionPenalty(size, window=config.penalty_window, seed=seed, device=device)

    def evaluate(network):
        dimension = np.nan
        if penalty.steps >= penalty.window:
            settings = {"sizes": penalty.sizes, "repeats": config.repeats, "seed": seed}
            dimension = ph_dimension(distances=penalty.distances(), **settings).dimension
        return _scores(network, images) | {"dimension": dimension}

    trained = train(
        network, PenalisedLoss(weight, penalty), (images.x, images.y), config.penalty_training,
        seed=seed, device=device, work=work / "run", evaluate=evaluate,
    )  # fmt: skip
    of_the_run = ("step", "loss", "gradient_norm", "learning_rate", "seconds")
    measured = {name: values for name, values in trained.history.items() if name not in of_the_run}
    return {"steps": trained.history["step"], **measured}


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
    x, y = batch
    return cross_entropy(network(x), y)


def _scores(network, images):
    """Accuracy and mean cross-entropy of a network on all training and all test images."""
    scores = {}
    for part, x, y in (("train", images.x, images.y), ("test", images.x_test, images.y_test)):
        logits = logits_of(network, x)
        scores[f"{part}_accuracy"] = (logits.argmax(dim=1) == y).double().mean().item()
        scores[f"{part}_loss"] = cross_entropy(logits.double(), y).item()
    return scores


def _losses_of_iterates(path, samples):
    """Cross-entropy of every iterate on the first training images, shape (K, samples), float64."""
    x, y = path.images.x[:samples], path.images.y[:samples]
    losses = np.empty((len(path.order), len(x)))
    for k, row in enumerate(path.order):
        weights = torch.from_numpy(np.array(path.rows[row])).to(x.device)
        vector_to_parameters(weights, path.network.parameters())
        logits = logits_of(path.network, x).double()
        losses[k] = cross_entropy(logits, y, reduction="none").cpu().numpy()
    return losses


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
    x, x_test = (_channels_first(images) for images in (data.x_train[chosen], data.x_test))
    mean, deviation = (f(x, axis=(0, 2, 3), keepdims=True) for f in (np.mean, np.std))
    x, x_test = (x - mean) / deviation, (x_test - mean) / deviation
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


def _channels_first(images):
    scaled = images.astype(np.float32)
    return scaled[:, None] if scaled.ndim == 3 else np.ascontiguousarray(scaled.transpose(0, 3, 1, 2))


# --- measuring a path ---------------------------------------------------------------------------------------


def _roughness(distances, config, seed):
    """Dimensions of a path: by persistent homology, by other estimators, and of null models of its steps."""
    settings = {"sizes": range(*config.path_sizes), "repeats": config.repeats, "seed": seed}
    estimate = ph_dimension(distances=distances, **settings)
    surrogates = {
        name: ph_dimension(distances=changed, **settings).dimension
        for name, changed in surrogate_paths(distances, np.random.default_rng(seed)).items()
    }
    fitted = ("dimension", "standard_error", "slope", "intercept", "sizes", "lifetime_sums")
    return {
        **{name: getattr(estimate, name) for name in fitted},
        "competitors": np.array([estimate(distances=distances) for estimate in ESTIMATORS.values()]),
        "competitor_names": np.array(list(ESTIMATORS)),
        "surrogates": np.array(list(surrogates)),
        "surrogate_dimensions": np.array(list(surrogates.values())),
        "step_lengths": distances.diagonal(1),
    }


def _pictures(distances, points):
    """A thinned distance matrix and its persistence diagrams."""
    thin = np.linspace(0, len(distances) - 1, min(points, len(distances))).astype(int)
    part = distances[np.ix_(thin, thin)]
    h0, h1 = persistence_diagrams(distances=part)
    return {"picture_steps": thin, "picture": part.astype(np.float32), "h0": h0, "h1": h1}


def _best_plane(distances):
    """Coordinates (n, 2) of the points in the plane that holds most of their spread, from distances alone."""
    squares = distances**2
    rows = squares.mean(axis=1, keepdims=True)
    values, vectors = np.linalg.eigh(-(squares - rows - rows.T + squares.mean()) / 2)
    return vectors[:, -2:][:, ::-1] * np.sqrt(np.maximum(values[-2:][::-1], 0))
