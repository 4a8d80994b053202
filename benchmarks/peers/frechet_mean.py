"""Peers to measure Fréchet means of the Poincaré ball against.

Riemannian gradient descent and the Karcher flow run on geoopt's geometry. What is called a re-statement puts a published
algorithm in our words; it is not the authors' code.
"""

import warnings

import torch

with warnings.catch_warnings():
    # geoopt compiles its functions with torch.jit when imported, and says nothing later.
    warnings.filterwarnings("ignore", "`torch.jit.script` is deprecated", DeprecationWarning)
    import geoopt

STEPS = (0.01, 0.03, 0.1, 0.3, 0.5, 0.7)  # for gradient descent; 0.5 is the Karcher flow
SERIES_BELOW = 1e-2


def geoopt_ball(curvature, dtype):
    """geoopt's ball of curvature K < 0: it takes c = -K, keeps it as a parameter and overwrites what it is given."""
    return geoopt.PoincareBall(torch.tensor(-curvature, dtype=dtype))


def gradient_descent(points, weights, ball, step, *, tolerance, max_iterations=10_000):
    """Riemannian gradient descent on the mean squared distance, whose gradient is minus twice the mean logarithm.

    Parameters
    ----------
    points : torch.Tensor, shape (B, n, d)
    weights : torch.Tensor, shape (B, n)
    ball : geoopt.PoincareBall
    step : float
    tolerance : float
        Of the mean logarithm, so that a short step is no reason to stop.
    max_iterations : int

    Returns
    -------
    mean : torch.Tensor, shape (B, d)
    iterations : int
    """
    shares = (weights / weights.sum(-1, keepdim=True))[..., None]
    mean = points[:, 0]
    for iteration in range(1, max_iterations + 1):
        move = (shares * ball.logmap(mean[:, None], points)).sum(-2)
        mean = ball.expmap(mean, 2 * step * move)
        if iteration == max_iterations or (move.norm(dim=-1) <= tolerance).all():
            return mean, iteration


def steepness(t):
    """First derivative of ``arcosh(1 + 2t)^2``: 4 where t is 0."""
    t = t.clamp_min(1e-30)
    return 4 * torch.asinh(t.sqrt()) / (t * (1 + t)).sqrt()


def steepness_and_bend(t):
    """First and second derivative of ``arcosh(1 + 2t)^2``, the second by a series where its formula cancels."""
    coefficient, slope, bend, power = 4.0, torch.zeros_like(t), torch.zeros_like(t), torch.ones_like(t)
    for k in range(1, 12):
        slope, coefficient = slope + coefficient * power, -coefficient * 2 * k / (2 * k + 1)
        bend, power = bend + k * coefficient * power, power * t
    large = t.clamp_min(SERIES_BELOW)
    q, s = large * (1 + large), torch.asinh(large.sqrt())
    near = t < SERIES_BELOW
    return (
        torch.where(near, slope, 4 * s / q.sqrt()),
        torch.where(near, bend, 2 / q - 2 * s * (1 + 2 * large) / q**1.5),
    )


def majorized_step(points, weights, curvature, mean, derivative):
    """One step of the paper's first algorithm from ``mean``, shape (B, d); ``derivative`` is that of arcosh^2."""
    squares = 1 + curvature * points.square().sum(-1)
    apart = (points - mean[:, None]).square().sum(-1)
    t = -curvature * apart / (squares * (1 + curvature * mean.square().sum(-1, keepdim=True)))
    pulls = weights * derivative(t) / squares
    b = (pulls[..., None] * points).sum(-2)
    p = pulls.sum(-1) - curvature * (pulls * points.square().sum(-1)).sum(-1)
    root = (p.square() + 4 * curvature * b.square().sum(-1)).clamp_min(0).sqrt()
    return 2 * b / (p + root)[:, None]


def iterate(points, weights, curvature, derivative, tolerance, max_iterations):
    """The algorithm from the first point, all problems of the batch until the last has settled; and the iterations."""
    mean = points[:, 0]
    for iteration in range(1, max_iterations + 1):
        before, mean = mean, majorized_step(points, weights, curvature, mean, derivative)
        moved = (mean - before).detach().norm(dim=-1)
        settled = (moved <= tolerance) | (moved <= tolerance * mean.detach().norm(dim=-1))
        if iteration == max_iterations or settled.all():
            return mean, iteration


def unrolled_mean(points, weights, curvature, *, tolerance, max_iterations=1000):
    """The paper's first algorithm with autograd recording every iteration: what one writes without the theorem.

    Parameters
    ----------
    points : torch.Tensor, shape (B, n, d)
    weights : torch.Tensor, shape (B, n)
    curvature : torch.Tensor, shape ()
    tolerance : float
    max_iterations : int

    Returns
    -------
    torch.Tensor, shape (B, d)
    """
    return iterate(points, weights, curvature, lambda t: steepness_and_bend(t)[0], tolerance, max_iterations)[
        0
    ]


class RestatedMean(torch.autograd.Function):
    """The published forward and backward: a matrix for each point, and the inverse of their sum."""

    @staticmethod
    def forward(ctx, points, weights, curvature, tolerance, max_iterations):
        mean, _ = iterate(points, weights, curvature, steepness, tolerance, max_iterations)
        ctx.save_for_backward(points, weights, curvature, mean)
        return mean

    @staticmethod
    def backward(ctx, cotangent):
        x, weights, curvature, mean = ctx.saved_tensors
        y = mean[:, None].expand_as(x)
        eye = torch.eye(x.shape[-1], dtype=x.dtype, device=x.device)
        xx, yy = x.square().sum(-1), y.square().sum(-1)
        rr = (x - y).square().sum(-1)
        X, Y = 1 + curvature * xx, 1 + curvature * yy
        first, second = steepness_and_bend(-curvature * rr / (X * Y))

        def row(number):  # one number a point, against vectors
            return number[..., None]

        def block(number):  # one number a point, against matrices
            return number[..., None, None]

        def outer(a, b):
            return a[..., :, None] * b[..., None, :]

        # The gradient in y is the sum of weights * first * u, where u is that of t, over -K; so is v in x.
        u = row(2 / (X * Y)) * (y - x) - row(2 * curvature * rr / (X * Y**2)) * y
        v = row(2 / (X * Y)) * (x - y) - row(2 * curvature * rr / (X**2 * Y)) * x
        hessian_t = (
            block(2 / (X * Y) - 2 * curvature * rr / (X * Y**2)) * eye
            - block(4 * curvature / (X * Y**2)) * (outer(y - x, y) + outer(y, y - x))
            + block(8 * curvature**2 * rr / (X * Y**3)) * outer(y, y)
        )
        hessians = block(weights * second * -curvature) * outer(u, u) + block(weights * first) * hessian_t
        solved = -(torch.inverse(hessians.sum(-3)) @ cotangent[..., None])[..., 0]
        del hessian_t, hessians
        mixed_t = (
            block(-2 / (X * Y)) * eye
            - block(4 * curvature / (X**2 * Y)) * outer(y - x, x)
            + block(4 * curvature / (X * Y**2)) * outer(y, y - x)
            + block(4 * curvature**2 * rr / (X**2 * Y**2)) * outer(y, x)
        )
        mixed = block(weights * second * -curvature) * outer(u, v) + block(weights * first) * mixed_t
        by_points = torch.einsum("bnij,bi->bnj", mixed, solved)
        by_weights = torch.einsum("bni,bi->bn", row(first) * u, solved)
        t_moves = -rr / (X * Y) * (1 - curvature * xx / X - curvature * yy / Y)
        u_moves = (
            row(-2 * xx / (X**2 * Y) - 2 * yy / (X * Y**2)) * (y - x)
            - row(2 * rr / (X * Y**2) * (1 - curvature * xx / X - 2 * curvature * yy / Y)) * y
        )
        moves = (row(weights * second * t_moves) * u + row(weights * first) * u_moves).sum(-2)
        return by_points, by_weights, (moves * solved).sum(), None, None


def restated_mean(points, weights, curvature, *, tolerance, max_iterations=1000):
    """Re-statement of the published forward and backward.

    The arcosh that is published loses half the digits of single precision for points close to the mean; here it does
    not, so that results can be compared.

    Parameters
    ----------
    points : torch.Tensor, shape (B, n, d)
    weights : torch.Tensor, shape (B, n)
    curvature : torch.Tensor, shape ()
    tolerance : float
    max_iterations : int

    Returns
    -------
    torch.Tensor, shape (B, d)
    """
    return RestatedMean.apply(points, weights, curvature, tolerance, max_iterations)


def padding(edges, nodes):
    """Rows of sources, one for each destination, filled up to the longest.

    Parameters
    ----------
    edges : torch.Tensor of int, shape (2, E)
        Sources and destinations.
    nodes : int

    Returns
    -------
    sources : torch.Tensor of int, shape (nodes, longest)
        0 where there is no edge.
    present : torch.Tensor of bool, shape (nodes, longest)
    """
    order = edges[1].argsort(stable=True)
    degrees = edges[1].bincount(minlength=nodes)
    present = torch.arange(int(degrees.max())) < degrees[:, None]
    sources = torch.zeros(present.shape, dtype=torch.long)
    sources[present] = edges[0, order]
    return sources, present
