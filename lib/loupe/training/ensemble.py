"""Many small networks of one shape, trained at once.

A small network leaves a machine idle between its operations. Stacked, the same operation of all members is one
larger operation: matrix products become batched ones. ``benchmarks/training.py`` measures where that wins.

To :func:`~loupe.training.fit` an ensemble is a network like any other; its members never touch each other, and each
goes the way it would go alone. One that diverges stops the run, which names it.
"""

import copy

import torch
from torch.func import functional_call, stack_module_state


class Ensemble(torch.nn.Module):
    """Members of one shape with stacked parameters.

    Parameters
    ----------
    networks : sequence of torch.nn.Module
        M networks of one architecture without buffers, each initialised as it is to start.

    Raises
    ------
    ValueError
        If there is no network, or they differ in shape or have buffers (running means, which no optimiser moves).

    Examples
    --------
    >>> ensemble = Ensemble([torch.nn.Linear(4, 2) for _ in range(3)])
    >>> ensemble(torch.zeros(3, 5, 4)).shape
    torch.Size([3, 5, 2])
    """

    def __init__(self, networks):
        super().__init__()
        shapes = {tuple((name, one.shape) for name, one in net.named_parameters()) for net in networks}
        if len(shapes) != 1:
            raise ValueError(
                f"an ensemble needs networks of one shape, got {len(networks)} networks of {len(shapes)} shapes"
            )
        stacked, buffers = stack_module_state(list(networks))
        if buffers:
            raise ValueError(f"an ensemble cannot hold networks with buffers, got {', '.join(buffers)}")
        self.members = len(networks)
        self._names = list(stacked)
        self._stacked = torch.nn.ParameterList(
            torch.nn.Parameter(one, one.requires_grad) for one in stacked.values()
        )
        # In a list, so that the example's own parameters are not this module's.
        self._example = [copy.deepcopy(networks[0]).to("meta")]

    def forward(self, inputs):
        """Outputs (M, B, ...) of every member for its own inputs (M, B, ...)."""
        if len(inputs) != self.members:
            raise ValueError(f"{self.members} members need as many batches of inputs, got {len(inputs)}")
        network = self._example[0].train(self.training)

        def output(parameters, x):
            return functional_call(network, parameters, (x,))

        stacked = dict(zip(self._names, self._stacked, strict=True))
        return torch.vmap(output, randomness="different")(stacked, inputs)

    def member(self, index):
        """The parameters of one member by name, as views; a network of its own loads them as its state."""
        return {name: one.detach()[index] for name, one in zip(self._names, self._stacked, strict=True)}


class EnsembleBatches:
    """The batches of all members, stacked.

    Parameters
    ----------
    members : sequence of Batches
        One a member, each with an order and, if wanted, with samples of its own; all of one size.
    """

    def __init__(self, members):
        self.members = members

    def __call__(self, step, part=0, parts=1):
        """Tensors of shape (M, size / parts, ...)."""
        drawn = [batches(step, part, parts) for batches in self.members]
        return [torch.stack(tensors) for tensors in zip(*drawn, strict=True)]


class EnsembleLoss:
    """The mean over members of the loss of each.

    Parameters
    ----------
    loss : callable
        ``loss(outputs, *targets)`` of one network: a mean over its samples, such as ``cross_entropy``.

    Attributes
    ----------
    values : torch.Tensor, shape (M,)
        Each member's own loss at the latest batch, where a hook can see who has arrived. It is that of the latest
        part if batches are taken in parts.
    """

    def __init__(self, loss):
        self.loss, self.values = loss, None

    def __call__(self, model, batch, generator):
        inputs, *targets = batch
        losses = torch.vmap(self.loss)(model(inputs), *targets)
        self.values = losses.detach()
        return losses.mean()


class EnsembleSGD(torch.optim.Optimizer):
    """Plain gradient descent of every member at its own rate, on the gradient of the *mean* of their losses.

    Do not clip the gradient: its norm is that of all members together.

    Parameters
    ----------
    ensemble : Ensemble
    rates : sequence of float
        One a member. The learning rate that a schedule sees is a factor on all of them.

    Attributes
    ----------
    active : torch.Tensor of bool, shape (M,)
        Members that still move. A member set to False keeps its parameters to the bit, whatever its gradient.

    Raises
    ------
    ValueError
        If there are not as many rates as members.
    """

    def __init__(self, ensemble, rates):
        if len(rates) != ensemble.members:
            raise ValueError(f"{ensemble.members} members need as many learning rates, got {len(rates)}")
        super().__init__(ensemble.parameters(), {"lr": 1.0})
        self.rates = torch.as_tensor(rates, dtype=torch.float64)
        self.active = torch.ones(ensemble.members, dtype=torch.bool)

    @torch.no_grad()
    def step(self, closure=None):
        """Move every active member by its own learning rate."""
        for group in self.param_groups:
            # The mean's gradient is a member's own one, divided by M.
            rates = group["lr"] * len(self.rates) * self.rates
            for parameter in group["params"]:
                if parameter.grad is None:
                    continue
                shape = (-1,) + (1,) * (parameter.ndim - 1)
                if not self.active.all():  # a mask, since 0 times an infinite gradient is nan
                    parameter.grad.masked_fill_(~self.active.to(parameter.device).view(shape), 0.0)
                parameter.addcmul_(parameter.grad, rates.to(parameter).view(shape), value=-1)

    def state_dict(self):
        """As of any optimiser, with the members that still move."""
        return super().state_dict() | {"active": self.active}

    def load_state_dict(self, state):
        """Restore what :meth:`state_dict` gave."""
        self.active = state["active"]
        super().load_state_dict({name: value for name, value in state.items() if name != "active"})
