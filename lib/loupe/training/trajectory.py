"""The last iterates of a training run, as rows of one matrix on disk."""

import tempfile

import numpy as np
import torch


def flat_parameters(network):
    """All parameters of a network in one vector, in the fixed order of ``network.parameters()``.

    Buffers, such as the running means of batch normalisation, are no parameters and stay out.

    Parameters
    ----------
    network : torch.nn.Module

    Returns
    -------
    torch.Tensor, shape (P,)
        Detached, of the parameters' own dtype.
    """
    return torch.cat([parameter.detach().reshape(-1) for parameter in network.parameters()])


class TrajectoryRecorder:
    """Keeps the last ``window`` iterates of a network: a ring of rows in a memory-mapped temporary file.

    The file has no name and vanishes with the recorder, so memory and disk hold ``window`` rows however long the run is.

    Parameters
    ----------
    network : torch.nn.Module
        With P parameters, float32.
    window : int
        Rows to keep, at least 1.
    folder : path, optional
        Where the temporary file lies; by default the system's place for them.

    Attributes
    ----------
    steps : int
        Iterates recorded so far, those overwritten included.
    """

    def __init__(self, network, window, folder=None):
        if window < 1:
            raise ValueError(f"window must be at least 1 iterate, got {window}")
        self.network, self.window, self.steps = network, window, 0
        size = sum(parameter.numel() for parameter in network.parameters())
        with tempfile.TemporaryFile(
            dir=folder, prefix="trajectory-"
        ) as file:  # the map outlives the open file
            self._ring = np.memmap(file, dtype=np.float32, mode="w+", shape=(window, size))

    def record(self):
        """Store the network's parameters as they are now; call it once after each step."""
        self._ring[self.steps % self.window] = flat_parameters(self.network).cpu().numpy()
        self.steps += 1

    def iterates(self):
        """The last ``window`` iterates in the order of time.

        Returns
        -------
        numpy.ndarray, shape (window, P), float32
            The map itself, or a copy in memory if the oldest row is not the first of the ring.

        Raises
        ------
        ValueError
            If fewer steps than ``window`` were recorded.
        """
        if self.steps < self.window:
            raise ValueError(
                f"{self.window} iterates are wanted but the run had {self.steps} steps: train longer or ask for fewer"
            )
        oldest = self.steps % self.window
        return np.roll(self._ring, -oldest, axis=0) if oldest else self._ring
