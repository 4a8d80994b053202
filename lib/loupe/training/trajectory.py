"""The last iterates of a training run, as rows of one matrix on disk."""

import tempfile
import zlib
from pathlib import Path

import numpy as np
import torch
from torch.nn.utils import vector_to_parameters

from loupe.errors import CheckpointError


def flat_parameters(network):
    """All parameters of a network in one vector, in the fixed order of ``network.parameters()``.

    Buffers, such as the running means of batch normalization, are not included.

    Parameters
    ----------
    network : torch.nn.Module

    Returns
    -------
    torch.Tensor, shape (P,)
        In the parameters' dtype, differentiable.
    """
    return torch.cat([parameter.reshape(-1) for parameter in network.parameters()])


@torch.no_grad()
def set_parameters(network, vector):
    """Put all parameters, as :func:`flat_parameters` gives them, into a network; they may have another precision."""
    vector_to_parameters(vector.to(next(network.parameters())), network.parameters())


class TrajectoryRecorder:
    """A callback that keeps the last ``window`` iterates of a network in a ring buffer on disk.

    The memory-mapped file has ``window`` rows however long the run is. After a restart the recorder continues in the
    file from the checkpoint's step: rows of later steps are written again.

    Parameters
    ----------
    network : torch.nn.Module
        With P parameters, float32.
    window : int
        Rows to keep, at least 1.
    file : path, optional
        Where to keep the rows, to resume after an interruption. By default a temporary file that disappears with the
        recorder.

    Attributes
    ----------
    steps : int
        Iterates recorded so far, including overwritten ones.
    rows : numpy.memmap, shape (window, P), float32
        The ring buffer; ``rows[order]`` is in order of time.
    """

    def __init__(self, network, window, file=None):
        if window < 1:
            raise ValueError(f"window must be at least 1 iterate, got {window}")
        self.network, self.window, self.steps = network, window, 0
        size = sum(parameter.numel() for parameter in network.parameters())
        # Each row starts with its step number and a checksum of both, so that rows of another run and damaged rows are
        # detected.
        fields = [("step", np.int64), ("check", np.int64), ("row", np.float32, (size,))]
        self._map = _open_map(file, window, np.dtype(fields))
        self.rows = self._map["row"]

    def __call__(self, run=None):
        """Store the network's current parameters; called once after each step."""
        place = self.steps % self.window
        with torch.no_grad():
            self.rows[place] = flat_parameters(self.network).cpu().numpy()
        self.steps += 1
        self._map["step"][place] = self.steps
        self._map["check"][place] = self._checksum(place)

    @property
    def order(self):
        """Row indices of the ring buffer in order of time, shape (window,), int.

        Raises
        ------
        ValueError
            If fewer steps than ``window`` were recorded.
        CheckpointError
            If rows in the file are damaged or belong to another run.
        """
        if self.steps < self.window:
            raise ValueError(
                f"{self.window} iterates are wanted but the run had {self.steps} steps: train longer or ask for fewer"
            )
        order = np.arange(self.steps, self.steps + self.window) % self.window
        steps = np.arange(self.steps - self.window + 1, self.steps + 1)
        sound = [self._map["check"][place] == self._checksum(place) for place in order]
        if not (np.array_equal(self._map["step"][order], steps) and all(sound)):
            raise CheckpointError(
                f"{self._map.filename} is damaged or holds iterates of another run: delete it and train again"
            )
        return order

    def _checksum(self, place):
        return zlib.crc32(self.rows[place], int(self._map["step"][place]) & 0xFFFFFFFF)

    def iterates(self):
        """An in-memory copy of the last ``window`` iterates in order of time, shape (window, P), float32."""
        return self.rows[self.order]

    def state_dict(self):
        """The step count, for a checkpoint; the rows are on disk already."""
        self._map.flush()
        return {"steps": self.steps}

    def load_state_dict(self, state):
        """Continue from a saved step count."""
        self.steps = state["steps"]


def _open_map(file, window, dtype):
    if file is None:
        with tempfile.TemporaryFile(prefix="trajectory-") as unnamed:  # the map outlives the open file
            return np.memmap(unnamed, dtype=dtype, mode="w+", shape=(window,))
    file = Path(file)
    file.parent.mkdir(parents=True, exist_ok=True)
    fits = file.exists() and file.stat().st_size == window * dtype.itemsize
    return np.memmap(file, dtype=dtype, mode="r+" if fits else "w+", shape=(window,))
