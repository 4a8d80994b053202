"""Evaluate a network during training."""

from collections.abc import Collection
from contextlib import contextmanager

import numpy as np
import torch
from torch.nn.functional import cross_entropy
from torch.nn.utils import parameters_to_vector, vector_to_parameters


@contextmanager
def evaluating(network):
    """Evaluation mode without gradients for the block; afterwards the network's mode is restored."""
    training = network.training
    network.eval()
    try:
        with torch.no_grad():
            yield network
    finally:
        network.train(training)


def logits_of(network, inputs, size=1000):
    """Outputs of a network in evaluation mode for many inputs, ``size`` of them at a time.

    Parameters
    ----------
    network : torch.nn.Module
    inputs : torch.Tensor, shape (n, ...)
    size : int

    Returns
    -------
    torch.Tensor, shape (n, ...)
    """
    with evaluating(network):
        return torch.cat([network(part) for part in inputs.split(size)])


def accuracy(network, inputs, labels):
    """Accuracy of a classifier in evaluation mode.

    Parameters
    ----------
    network : torch.nn.Module
        Gives logits (n, classes).
    inputs : torch.Tensor, shape (n, ...)
    labels : torch.Tensor of int64, shape (n,)

    Returns
    -------
    float
        From 0 to 1.
    """
    return (logits_of(network, inputs).argmax(dim=1) == labels).double().mean().item()


def losses_at(network, iterates, inputs, labels):
    """Cross-entropy of a classifier at many weights, for :func:`loupe.topology.loss_distances`.

    Parameters
    ----------
    network : torch.nn.Module
        Gives logits (n, classes); it has its own weights again afterwards.
    iterates : iterable of array, shape (P,)
        All parameters in the order of ``network.parameters()``, such as the rows of a
        :class:`loupe.training.TrajectoryRecorder`.
    inputs : torch.Tensor, shape (n, ...)
    labels : torch.Tensor of int64, shape (n,)

    Returns
    -------
    numpy.ndarray, shape (K, n), float64
        A row for each of the K iterates.
    """
    own, losses = parameters_to_vector(network.parameters()).detach(), []
    for weights in iterates:
        vector_to_parameters(torch.as_tensor(np.array(weights), device=inputs.device), network.parameters())
        logits = logits_of(network, inputs).double()
        losses.append(cross_entropy(logits, labels, reduction="none").cpu().numpy())
    vector_to_parameters(own, network.parameters())
    return np.stack(losses)


def log_spaced(steps, count):
    """Up to ``count`` steps of a run, evenly spaced in their logarithm, from a thousandth of it to its end."""
    return np.unique(np.geomspace(max(1, steps / 1000), steps, count).round().astype(int)).tolist()


class History:
    """A callback that measures the network every ``every`` steps, or at given steps, and keeps the values.

    Parameters
    ----------
    every : int or collection of int
        Steps between measurements, the first after ``every`` steps; or the steps of all measurements.
    measure : callable
        Maps the :class:`~loupe.training.Run` to a dictionary of numbers, with the same names each time. No gradient is
        kept.

    Attributes
    ----------
    steps : list of int
    values : dict of str to list of float
    """

    def __init__(self, every, measure):
        self.every, self.measure = every, measure
        self.steps, self.values = [], {}

    def __call__(self, run):
        listed = isinstance(self.every, Collection)
        if (run.step in self.every) if listed else (run.step % self.every == 0):
            self.steps.append(run.step)
            with torch.no_grad():
                for name, value in self.measure(run).items():
                    self.values.setdefault(name, []).append(float(value))

    def last(self, name):
        """The latest value of a name; nan before the first measurement."""
        return self.values[name][-1] if self.steps else float("nan")

    def state_dict(self):
        """Steps and values, for a checkpoint."""
        return {"steps": self.steps, "values": self.values}

    def load_state_dict(self, state):
        """Continue from saved steps and values."""
        self.steps, self.values = state["steps"], state["values"]
