"""Helpers that keep hand-written derivatives correct when someone differentiates more than once.

``once_differentiable`` doesn't help: ``torch.autograd.grad`` of chosen inputs never reaches the node that raises, and
transforms of ``torch.func`` get zeros. So a hand-written backward pass runs only when nothing records it; in grad mode,
operations that autograd can follow replace it.
"""

from functools import wraps

import torch
from torch.autograd import forward_ad


def transformed():
    """Whether a transform of ``torch.func`` or forward-mode differentiation is active."""
    return torch._C._are_functorch_transforms_active() or forward_ad._current_level >= 0


def readable(*tensors):
    """Whether the program may branch on these values: not in ``torch.compile``, nor for a batch of ``torch.func.vmap``."""
    return not torch.compiler.is_compiling() and not any(map(_batched, tensors))


def _batched(tensor):
    functorch = torch._C._functorch
    while isinstance(tensor, torch.Tensor) and functorch.is_functorch_wrapped_tensor(tensor):
        if functorch.is_batchedtensor(tensor):
            return True
        tensor = functorch.get_unwrapped(tensor)
    return False


def full_precision(backward):
    """The backward pass of a ``torch.autograd.Function`` with autocast off: LU has no half precision."""

    @wraps(backward)
    def wrapped(ctx, cotangent, *others):
        with torch.autocast(cotangent.device.type, enabled=False):
            return backward(ctx, cotangent, *others)

    return wrapped


def slope(function, x):
    """The gradient of the sum of ``function(x)`` in ``x``, itself differentiable where autograd records.

    Parameters
    ----------
    function : callable
    x : torch.Tensor

    Returns
    -------
    torch.Tensor
        Shape of ``x``.
    """
    if transformed():
        return torch.func.grad(lambda at: function(at).sum())(x)
    # Parameters other than x may be learned: then the function itself needs gradients.
    recorded = torch.is_grad_enabled() and (x.requires_grad or function(x).requires_grad)
    with torch.enable_grad():
        at = x if recorded and x.requires_grad else x.detach().requires_grad_()
        return torch.autograd.grad(function(at).sum(), at, create_graph=recorded)[0]


def first_order(name, value):
    """The value, with a correct first derivative; any higher derivative raises a RuntimeError."""
    return _FirstOrder.apply(name, value)


class _FirstOrder(torch.autograd.Function):
    @staticmethod
    def forward(name, value):
        return value.clone()

    @staticmethod
    def setup_context(ctx, inputs, output):
        ctx.name = inputs[0]

    @staticmethod
    def backward(ctx, cotangent):
        if torch.is_grad_enabled():
            raise RuntimeError(
                f"{ctx.name} has a first derivative only: call .backward() or torch.autograd.grad without create_graph, "
                "and no transform of torch.func"
            )
        return None, cotangent


def no_derivative(name, value, x):
    """The value, computed from ``x`` without a derivative; asking for one raises a RuntimeError, rather than give 0."""
    return _NoDerivative.apply(name, value, x) if x.requires_grad or transformed() else value


class _NoDerivative(torch.autograd.Function):
    @staticmethod
    def forward(name, value, x):
        return value.clone()

    @staticmethod
    def setup_context(ctx, inputs, output):
        ctx.name = inputs[0]

    @staticmethod
    def backward(ctx, cotangent):
        raise RuntimeError(f"{ctx.name} has no derivative: call .detach() if it is constant for your purpose")
