"""A moving average of a network that forgets its first steps sooner than its last."""

from copy import deepcopy

import torch


class MovingAverage:
    """A hook that keeps the exponential moving average of a network's parameters.

    Update n, from 1, keeps the share ``min(decay, (1 + n) / (10 + n))`` of what was: an average of few steps is not one
    of where they began. Buffers are copied.

    Parameters
    ----------
    network : torch.nn.Module
        As it is before the first step.
    decay : float
        From 0 up to but not including 1.

    Attributes
    ----------
    network : torch.nn.Module
        The average, in evaluation mode, on the device of the network that is trained from the first update on.
    """

    def __init__(self, network, decay):
        if not 0 <= decay < 1:
            raise ValueError(f"decay must be at least 0 and below 1, got {decay}")
        self.network, self.decay, self.updates = deepcopy(network).eval().requires_grad_(False), decay, 0

    def __call__(self, run):
        self.updates += 1
        kept = min(self.decay, (1 + self.updates) / (10 + self.updates))
        latest = list(run.network.parameters())
        self.network.to(latest[0].device)
        with torch.no_grad():
            torch._foreach_lerp_(list(self.network.parameters()), latest, 1 - kept)
            for ours, theirs in zip(self.network.buffers(), run.network.buffers(), strict=True):
                ours.copy_(theirs)

    def state_dict(self):
        """The average and the number of updates, to be saved with a run."""
        return {"network": self.network.state_dict(), "updates": self.updates}

    def load_state_dict(self, state):
        """Go on from a saved average."""
        self.network.load_state_dict(state["network"])
        self.updates = state["updates"]
