"""Moving averages of a network, in at least float32, since half precision would round small updates away."""

from copy import deepcopy

import torch

HALF = (torch.bfloat16, torch.float16)


class MovingAverage:
    """A callback that keeps an exponential moving average (EMA) of a network's parameters.

    Update n, from 1, uses decay ``min(decay, (1 + n) / (10 + n))``, so that the initial weights do not dominate the
    average of a short run. Buffers are copied.

    Parameters
    ----------
    network : torch.nn.Module
        The network before the first step.
    decay : float
        From 0 up to but not including 1.

    Attributes
    ----------
    network : torch.nn.Module
        The average, in evaluation mode; from the first update on it is on the device of the trained network. It has the
        network's dtype, or float32 for half precision; it then takes inputs of either.
    """

    def __init__(self, network, decay):
        if not 0 <= decay < 1:
            raise ValueError(f"decay must be at least 0 and below 1, got {decay}")
        self.network = _widened(deepcopy(network)).eval().requires_grad_(False)
        self.decay, self.updates = decay, 0

    def __call__(self, run):
        self.updates += 1
        kept = min(self.decay, (1 + self.updates) / (10 + self.updates))
        latest = list(run.network.parameters())
        self.network.to(latest[0].device)
        if any(theirs.dtype in HALF for theirs in latest) and not self.network._forward_pre_hooks:
            self.network.register_forward_pre_hook(_widen_inputs, with_kwargs=True)
        _widen(self.network.parameters(), latest)
        _widen(self.network.buffers(), run.network.buffers())
        averages = list(self.network.parameters())
        with torch.no_grad():
            alike = [theirs.to(ours.dtype) for ours, theirs in zip(averages, latest, strict=True)]
            torch._foreach_lerp_(averages, alike, 1 - kept)
            for ours, theirs in zip(self.network.buffers(), run.network.buffers(), strict=True):
                ours.copy_(theirs)

    def state_dict(self):
        """The average and the number of updates, for a checkpoint."""
        return {"network": self.network.state_dict(), "updates": self.updates}

    def load_state_dict(self, state):
        """Continue from a saved average."""
        ours = self.network.state_dict(keep_vars=True)
        known = [name for name in state["network"] if name in ours]
        _widen([ours[name] for name in known], [state["network"][name] for name in known])
        self.network.load_state_dict(state["network"])
        self.updates = state["updates"]


def _widened(network):
    """The network itself with its half-precision tensors in float32."""
    tensors = [one for one in (*network.parameters(), *network.buffers()) if one.dtype in HALF]
    for tensor in tensors:
        tensor.data = tensor.data.float()
    if tensors:
        network.register_forward_pre_hook(_widen_inputs, with_kwargs=True)
    return network


def _widen(ours, theirs):
    """Change tensors to a dtype that can also hold the others' values."""
    for one, other in zip(ours, theirs, strict=True):
        wide = torch.promote_types(one.dtype, other.dtype)
        if one.dtype != wide:
            one.data = one.data.to(wide)


def _widen_inputs(network, inputs, named):
    """Let an average accept the half-precision inputs of its network."""
    wide = next((one.dtype for one in network.parameters() if one.is_floating_point()), torch.float32)

    def widened(value):
        return value.to(wide) if isinstance(value, torch.Tensor) and value.dtype in HALF else value

    return tuple(map(widened, inputs)), {name: widened(value) for name, value in named.items()}
