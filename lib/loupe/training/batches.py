"""Mini-batches as a function of the step."""

import torch

from loupe.deprecation import renamed
from loupe.training.devices import seed_of


class Batches:
    """Mini-batches of tensors that share their first axis.

    The samples form an endless sequence, one seeded permutation after another, and each step takes the next ``size``:
    every batch is full, and every sample appears once in each epoch. There is no state between calls.

    Parameters
    ----------
    *tensors : torch.Tensor, shape (n, ...)
    size : int
        Samples in a batch, over all processes.
    seed : int
        Of the permutations.
    shuffle : bool
        False keeps the samples in order in every epoch.

    Raises
    ------
    ValueError
        If the tensors differ in length or are empty, or size is below 1.

    Examples
    --------
    >>> batches = Batches(torch.arange(10), size=4, shuffle=False)
    >>> [batches(step)[0].tolist() for step in range(3)]
    [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9, 0, 1]]
    """

    def __init__(self, *tensors, size, seed=0, shuffle=True):
        lengths = {len(tensor) for tensor in tensors}
        if len(lengths) != 1 or 0 in lengths:
            raise ValueError(f"batches need tensors of one length above 0, got {sorted(lengths)}")
        if size < 1:
            raise ValueError(f"a batch must have at least 1 sample, got {size}")
        self.tensors, self.size, self.seed, self.shuffle = tensors, size, seed, shuffle
        self._orders = {}

    def __len__(self):
        """Samples in one epoch."""
        return len(self.tensors[0])

    @renamed(part="shard", parts="shards")
    def __call__(self, step, shard=0, shards=1):
        """One of ``shards`` equal shards of a step's batch.

        Returns
        -------
        list of torch.Tensor, shape (size / shards, ...)
        """
        if self.size % shards:
            raise ValueError(
                f"a batch of {self.size} cannot be split in {shards} equal shards: choose a multiple of {shards}"
            )
        count = self.size // shards
        start = step * self.size + shard * count
        chosen = self.row(start, start + count)
        return [tensor[chosen.to(tensor.device)] for tensor in self.tensors]

    def row(self, start, stop):
        """Sample indices at positions ``start`` to ``stop`` of the endless sequence, shape (stop - start,), int64."""
        first, last = start // len(self), (stop - 1) // len(self)
        orders = [self._order(turn) for turn in range(first, last + 1)]
        row = orders[0] if first == last else torch.cat(orders)
        return row[start - first * len(self) : stop - first * len(self)]

    def _order(self, turn):
        if not self.shuffle:
            return torch.arange(len(self))
        if turn not in self._orders:
            generator = torch.Generator().manual_seed(seed_of(self.seed, turn))
            # Two epochs are enough to cache: a batch seldom spans more.
            self._orders = {k: self._orders[k] for k in self._orders if k == turn - 1}
            self._orders[turn] = torch.randperm(len(self), generator=generator)
        return self._orders[turn]
