"""Implicit derivatives of a minimizer with respect to parameters, for any objective and constraint."""

import torch

from loupe.deprecation import renamed
from loupe.derivatives import full_precision, transformed


def attached(found, step, inputs, first):
    """``found``, with the derivatives of a solution of ``found = step(found, *inputs)``.

    Parameters
    ----------
    found : torch.Tensor
        The solution, detached.
    step : callable
        ``step(found, *inputs)`` is one exact Newton step: its derivative in ``found`` is 0.
    inputs : tuple of torch.Tensor
    first : callable
        Takes no arguments; returns the solution with its first derivative only, if there is a faster or more accurate
        way.

    Returns
    -------
    torch.Tensor
        Shape of ``found``, and its value up to rounding. Under ``torch.compile`` and ``torch.func`` transforms the
        first seven derivatives are correct.
    """
    if torch.compiler.is_compiling() or transformed():
        # No hand-written backward: each step doubles the number of correct derivatives, starting from the 0th.
        for _ in range(3):
            found = step(found, *inputs)
        return found
    return _Attached.apply(first(), found, step, *inputs)


class _Attached(torch.autograd.Function):
    """In the backward pass autograd records the derivative of a step from a solution that is itself attached."""

    @staticmethod
    def forward(first, found, step, *inputs):
        return first.clone()

    @staticmethod
    def setup_context(ctx, inputs, output):
        _, found, ctx.step, *rest = inputs
        ctx.save_for_backward(found, *rest)

    @staticmethod
    @full_precision
    def backward(ctx, cotangent):
        if ctx.needs_input_grad[0] and not torch.is_grad_enabled():
            return cotangent, None, None, *[None] * (len(ctx.needs_input_grad) - 3)
        found, *inputs = ctx.saved_tensors
        solution = _Attached.apply(found, found, ctx.step, *inputs)
        _, vjp = torch.func.vjp(lambda *inputs: ctx.step(solution, *inputs), *inputs)
        return None, None, None, *vjp(cotangent)


@renamed(minimiser="minimizer")
def implicit_argmin_vjp(objective, minimizer, params, constraint=None):
    """The vector-Jacobian product of ``params -> argmin_y objective(y, *params)``, by the implicit function theorem.

    Lou et al. 2020, section 3, as a bordered system, which also covers nonlinear constraints and constraints that
    depend on parameters. Meant for small d, in float64: the Hessian is formed.

    Parameters
    ----------
    objective : callable
        ``objective(y, *params)`` returns a scalar tensor, twice differentiable.
    minimizer : torch.Tensor of float64, shape (d,)
        The minimizer for these parameters.
    params : sequence of torch.Tensor
    constraint : callable, optional
        ``constraint(y, *params)`` returns a tensor of shape ``(m,)`` that is 0 for feasible ``y``.

    Returns
    -------
    callable
        Maps a cotangent of shape ``(d,)`` to a tuple of gradients, one in the shape of each of ``params``.

    Raises
    ------
    ValueError
        If the point is not stationary, is not on the constraint, or is not in float64.

    Examples
    --------
    The minimizer of ``(y - a)**2`` is ``a``.

    >>> a = torch.tensor([2.0], dtype=torch.float64)
    >>> vjp = implicit_argmin_vjp(lambda y, a: (y - a).square().sum(), a, [a])
    >>> vjp(torch.ones(1, dtype=torch.float64))
    (tensor([1.], dtype=torch.float64),)
    """
    if minimizer.dtype != torch.float64 or minimizer.dim() != 1:
        raise ValueError(
            f"the minimizer must be float64 of shape (d,), got {minimizer.dtype} of shape {tuple(minimizer.shape)}"
        )
    constraint = constraint or (lambda y, *params: y.new_zeros(0))
    y = minimizer.detach()
    params = tuple(param.detach() for param in params)
    gradient = torch.func.grad(objective)(y, *params)
    normals = torch.func.jacrev(constraint)(y, *params)  # (m, d)
    multipliers = torch.linalg.pinv(normals.mT) @ gradient
    scale = max(1.0, gradient.norm().item())
    left = (gradient - normals.mT @ multipliers).norm().item()
    off = constraint(y, *params).abs().sum().item()
    if not (left <= 1e-6 * scale and off <= 1e-6):
        raise ValueError(
            f"the point must be a minimizer on the constraint: the gradient left over is {left:.3g}, and the constraint "
            f"misses 0 by {off:.3g}"
        )

    def lagrangian(y, *params):
        return objective(y, *params) - multipliers @ constraint(y, *params)

    hessian = torch.func.jacrev(torch.func.grad(lagrangian))(y, *params)
    corner = normals.new_zeros(len(normals), len(normals))
    bordered = torch.cat([torch.cat([hessian, normals.mT], 1), torch.cat([-normals, corner], 1)])

    def vjp(cotangent):
        right = torch.cat([cotangent, cotangent.new_zeros(len(normals))])
        solution = torch.linalg.solve(bordered, right)
        lam, eta = solution[: len(y)], solution[len(y) :]

        def tested(*params):
            return -(lam @ torch.func.grad(lagrangian)(y, *params) + eta @ constraint(y, *params))

        return torch.func.grad(tested, argnums=tuple(range(len(params))))(*params)

    return vjp
