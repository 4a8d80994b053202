"""The dimension of the latest iterates of a training run, as a term of its loss."""

import numpy as np

from loupe.checks import whole
from loupe.derivatives import first_order
from loupe.topology.dimension import checked_sizes
from loupe.topology.persistence import check_alpha
from loupe.topology.regularizer import differentiable_ph_dimension

# Bytes of one block of differences: fits in a core's cache, or keeps a GPU busy.
CPU_BLOCK_BYTES, DEVICE_BLOCK_BYTES = 2**20, 2**28


class DimensionPenalty:
    r"""PH dimension of the last ``window`` iterates of a training run, differentiable in the newest of them.

    Called once a step with the weights :math:`w_k`, it returns
    :math:`\widehat{\dim}_{\rm PH}\{w_{k-\text{window}+1},\dots,w_k\}` and stores :math:`w_k` without its graph.
    With :math:`r_j=|w_k-w_j|`, the gradient is
    :math:`\sum_j\frac{\partial\widehat{\dim}}{\partial r_j}\,\frac{w_k-w_j}{r_j}`, over the trees' edges of positive
    length that end at :math:`w_k`. The distance matrix is kept, and each step replaces one row by direct differences:
    it reads the window once and needs no other memory of that size.

    Parameters
    ----------
    size : int
        Number of weights P.
    window : int
        Iterates to keep.
    sizes : sequence of int, optional
        Subset sizes, increasing, at least three, none above the window; by default 10, 20, ... below the window.
    alpha : float
        Power of the lifetimes.
    seed : int
        Subsets are a function of the seed and the step: one for each size at each step.
    dtype : torch.dtype, optional
        Dtype of the stored iterates; by default float32. Distances are float64.
    device : str or torch.device
        Where the iterates lie.

    Attributes
    ----------
    steps : int
        Iterates seen so far, including dropped ones.

    Raises
    ------
    ValueError
        If the size, sizes or alpha are not valid; on a call, if the vector has not P finite entries, or all iterates
        of a subset are identical.

    Examples
    --------
    >>> import torch
    >>> penalty = DimensionPenalty(2, window=40)
    >>> for w in torch.rand(40, 2):
    ...     value = penalty(w.requires_grad_())
    >>> value.backward()
    >>> w.grad.shape
    torch.Size([2])
    """

    def __init__(self, size, *, window=100, sizes=None, alpha=1.0, seed=0, dtype=None, device="cpu"):
        import torch

        size, window = whole("size", size), whole("window", window)
        check_alpha(alpha)
        self.sizes = checked_sizes(range(10, window, 10) if sizes is None else sizes, window)
        self.window, self.alpha, self.seed, self.steps = window, alpha, seed, 0
        self._ring = torch.zeros(window, size, dtype=dtype or torch.float32, device=device)
        self._distances = torch.zeros(window, window, dtype=torch.float64)

    def __call__(self, vector):
        """Store the newest iterate and return the dimension of the window.

        Parameters
        ----------
        vector : torch.Tensor, shape (P,)
            All weights, such as ``torch.nn.utils.parameters_to_vector(network.parameters())``. Without a gradient here
            the result has none either: cheap monitoring.

        Returns
        -------
        torch.Tensor or None
            Scalar, with a first-order gradient; differentiating it again is an error.
            None until ``window`` iterates are known; nan, with a gradient
            of zero, where the slope of lifetime sums is not below 1.
        """
        import torch

        newest = vector.detach()
        self.remember(newest)
        if self.steps < self.window:
            return None
        # In the order of the ring, where the newest iterate is not the last.
        subsets = [(subset + self.steps) % self.window for subset in self.subsets()]
        differentiate = vector.requires_grad and torch.is_grad_enabled()
        distances = self._distances.clone().requires_grad_(differentiate)
        dimension = differentiable_ph_dimension(None, subsets, self.alpha, distances=distances)
        value = dimension.detach().to(vector)
        if not differentiate:
            return value
        # The gradient is taken now, as the next step overwrites an iterate; the added term itself is zero.
        slope = self._gradient(dimension, distances).to(vector)
        return first_order("the dimension penalty", value + slope @ (vector - newest))

    def remember(self, newest):
        """Replace the oldest iterate by a new one (P,), and its row and column of distances."""
        if newest.shape != self._ring.shape[1:]:
            raise ValueError(
                f"the vector must have shape {tuple(self._ring.shape[1:])}, got {tuple(newest.shape)}"
            )
        if not newest.isfinite().all():
            raise ValueError(f"iterate {self.steps} holds NaN or infinity: did the training diverge?")
        place, known = self.steps % self.window, min(self.steps + 1, self.window)
        self._ring[place] = newest
        lengths = row_distances(self._ring[:known], self._ring[place]).cpu()
        self._distances[place, :known] = self._distances[:known, place] = lengths
        self.steps += 1

    def iterates(self):
        """The stored iterates, oldest first: torch.Tensor, shape (min(steps, window), P)."""
        return self._ring[self._by_age()]

    def distances(self):
        """The distances between them in the same order, shape (m, m), float64; :func:`ph_dimension` takes them."""
        order = self._by_age()
        return self._distances.numpy()[np.ix_(order, order)]

    def subsets(self):
        """The subsets of this step: for each size an array of indices into the iterates, oldest first."""
        rng = np.random.default_rng([self.seed, self.steps])
        return [rng.choice(self.window, size=n, replace=False) for n in self.sizes]

    def state_dict(self):
        """A copy of everything needed to continue bit for bit: two tensors and a number."""
        return {"iterates": self._ring.clone(), "distances": self._distances.clone(), "steps": self.steps}

    def load_state_dict(self, state):
        """Continue from a :meth:`state_dict`; sizes, alpha and seed are those given at construction.

        Raises
        ------
        ValueError
            If the state has another window or number of weights.
        """
        found, wanted = tuple(state["iterates"].shape), tuple(self._ring.shape)
        if found != wanted:
            raise ValueError(f"the state has (window, size) {found}, and this penalty {wanted}")
        self._ring.copy_(state["iterates"])
        self._distances.copy_(state["distances"])
        self.steps = int(state["steps"])

    def _by_age(self):
        """Places in the ring (m,), from the oldest iterate to the newest."""
        return np.arange(max(0, self.steps - self.window), self.steps) % self.window

    def _gradient(self, dimension, distances):
        """Gradient (P,) of the dimension in the newest iterate, through its row and column of distances."""
        import torch

        (slopes,) = torch.autograd.grad(dimension, distances)
        place = (self.steps - 1) % self.window
        slopes = slopes[place] + slopes[:, place]  # an edge is read from one of its two ends
        joined = slopes.nonzero()[:, 0]  # a few edge endpoints: never at distance zero
        pulls = (slopes[joined] / self._distances[place, joined]).to(self._ring)
        return pulls @ (self._ring[place] - self._ring[joined.to(self._ring.device)])


def row_distances(rows, row):
    """Euclidean distances from one row (P,) to others (m, P), by direct differences.

    Differences of float32 iterates that nearly coincide are exact, and blocks of columns are summed in float64.

    Parameters
    ----------
    rows, row : torch.Tensor

    Returns
    -------
    torch.Tensor, shape (m,), float64
    """
    import torch

    block_bytes = CPU_BLOCK_BYTES if rows.device.type == "cpu" else DEVICE_BLOCK_BYTES
    width = max(1, block_bytes // (rows.itemsize * len(rows)))
    squares = torch.zeros(len(rows), dtype=torch.float64, device=rows.device)
    for start in range(0, rows.shape[1], width):
        columns = slice(start, start + width)
        squares += (rows[:, columns] - row[columns]).square_().sum(dim=1)
    return squares.sqrt()
