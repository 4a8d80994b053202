"""Small MLPs for diffusion on vectors, such as densities in the plane, and for bridges between them."""

from itertools import pairwise

import torch
from torch import nn
from torch.nn.functional import silu

from loupe.checks import whole
from loupe.networks.noise_embedding import NoiseEmbedding


class NoiseMLP(nn.Module):
    """An MLP on noisy vectors, with noise and class embeddings added at every hidden layer.

    Parameters
    ----------
    dim : int
        Dimension of a vector.
    outputs : int, optional
        Output dimension; ``dim`` by default.
    width : int
        Width of each hidden layer.
    layers : int
        Number of hidden layers.
    condition : int
        Dimension of the embedding of noise and class. At the hidden width, steps would take 1.5 times as long.
    classes : int
        Labels are 0 to ``classes - 1``; ``classes`` itself is the null class, no label. With 0 there are no labels.
    seed : int
        Of the initial weights. The output starts at 0.

    Raises
    ------
    ValueError
        For numbers that are not positive, or a negative number of classes.

    Examples
    --------
    >>> sum(p.numel() for p in NoiseMLP(2).parameters())
    48066
    """

    def __init__(self, dim, *, outputs=None, width=128, layers=3, condition=32, classes=0, seed=0):
        super().__init__()
        outputs = dim if outputs is None else outputs
        sizes = {"dim": dim, "outputs": outputs, "width": width, "layers": layers, "condition": condition}
        dim, outputs, width, layers, condition = (whole(name, value) for name, value in sizes.items())
        classes = whole("classes", classes, 0)
        self.dim = dim
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)
            self.embedding = NoiseEmbedding(condition, classes=classes, low_frequencies=True)
            self.hidden = nn.ModuleList(nn.Linear(width if k else dim, width) for k in range(layers))
            self.condition = nn.ModuleList(nn.Linear(condition, width, bias=False) for _ in range(layers))
            self.head = nn.Linear(width, outputs)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)

    def forward(self, x, sigma, labels=None):
        """Output (B, outputs).

        Parameters
        ----------
        x : torch.Tensor
            Of shape (B, dim), of the dtype of the weights.
        sigma : torch.Tensor or float
            Noise levels of shape (B,), or one for all. Not checked to be positive.
        labels : torch.Tensor, optional
            int64 of shape (B,), in [0, classes]; without them every sample gets the null class.

        Raises
        ------
        ValueError
            For wrong shapes, labels out of range, or labels without classes.
        """
        if x.dim() != 2 or x.shape[1] != self.dim:
            raise ValueError(
                f"vectors must be of shape (B, {self.dim}) for this network, got {tuple(x.shape)}: make it with another dim"
            )
        vector = self.embedding(sigma, labels, len(x))
        for hidden, condition in zip(self.hidden, self.condition, strict=True):
            x = silu(hidden(x) + condition(vector))
        return self.head(x)


class TranslationMLP(nn.Module):
    """An MLP that sees a source beside a vector, called ``(x, x_T, ln(t) / 4)`` as diffusion bridges call networks.

    Parameters
    ----------
    dim : int
        Dimension of a vector. With 1, a batch may also be numbers, of shape (B,).
    width : int
        Width of each of the three hidden layers.
    seed : int
        Of the initial weights.
    """

    def __init__(self, dim, *, width=64, seed=0):
        super().__init__()
        self.dim, width = whole("dim", dim), whole("width", width)
        sizes = (2 * self.dim + 1, width, width, width)
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)
            hidden = [layer for pair in pairwise(sizes) for layer in (nn.Linear(*pair), nn.SiLU())]
            self.body = nn.Sequential(*hidden, nn.Linear(width, self.dim))

    def forward(self, x, x_T, log_time):
        """Outputs of the shape of ``x``."""
        numbers = x.ndim == 1 and self.dim == 1
        if not numbers and (x.ndim != 2 or x.shape[1] != self.dim):
            raise ValueError(
                f"vectors must be of shape (B, {self.dim}) for this network, got {tuple(x.shape)}: make it with another dim"
            )
        seen = [each.reshape(len(x), -1) for each in (x, x_T, log_time)]
        return self.body(torch.cat(seen, -1)).reshape(x.shape)
