r"""The heat kernel of an interval with reflecting walls: density, score, samples.

Noise of standard deviation sigma is added to ``x0`` in [0, 1], and points that leave the interval are folded back. The
density has two series ([1]), each the Poisson dual of the other:

.. math::

   p(x\mid x_0)&=\frac1\sigma\sum_k\varphi\Bigl(\frac{x-2k-x_0}\sigma\Bigr)+\varphi\Bigl(\frac{x-2k+x_0}\sigma\Bigr)\\
   &=1+2\sum_{k\ge1}e^{-k^2\pi^2\sigma^2/2}\cos(k\pi x_0)\cos(k\pi x).

The sum over images of ``x0`` converges fast for small sigma, the cosines for large sigma; they balance at sigma^2 = 1 /
pi. In a cube coordinates are independent, so everything here is elementwise.

References
----------
.. [1] Lou and Ermon, Reflected Diffusion Models, 2023.
"""

import math

import torch

from loupe.derivatives import readable

FEW_IMAGES = 0.15
"""Largest sigma at which five images are enough, in double precision too."""

BALANCE = math.pi**-0.5
"""From this sigma on cosines are summed, and below it images."""

REACH = {torch.float32: 2, torch.float64: 3}
"""Images x0 + 2k are summed for k from -reach to reach, and 2k - x0 for k from 1 - reach to reach."""

COSINES = {torch.float32: 4, torch.float64: 5}
PIECE = 32_768  # elements processed at once: a dozen such tensors fit in the cache


def fold(u):
    """Fold the line onto [0, 1] like a strip of paper, at every integer; points inside stay.

    Parameters
    ----------
    u : torch.Tensor of floats, any shape

    Returns
    -------
    torch.Tensor
        Of the same shape. Its derivative is 1 or -1.

    Examples
    --------
    >>> fold(torch.tensor([0.3, -0.25, 1.5, 2.25]))
    tensor([0.3000, 0.2500, 0.5000, 0.2500])
    """
    return unfolded(u)[0]


def unfolded(u):
    """Folded points, and the direction of the strip there.

    Returns
    -------
    x, direction : torch.Tensor
        ``fold(u)``, and 1 or -1, the derivative of it.
    """
    v = torch.sub(u, (u / 2).round(), alpha=2)  # from -1 to 1, without rounding error
    direction = torch.ones_like(v).copysign(v.detach())
    return v * direction, direction


def sample_kernel(x0, sigma, generator=None):
    """Add Gaussian noise to points of the cube and fold it back: draws from the kernel, exactly, in one step.

    Parameters
    ----------
    x0 : torch.Tensor, shape (B, ...)
        Values in [0, 1].
    sigma : torch.Tensor, shape (B,) or one that broadcasts to (B, ...), or float
    generator : torch.Generator, optional

    Returns
    -------
    torch.Tensor
        Shape and dtype of ``x0``; half precision becomes float32.

    Raises
    ------
    ValueError
        As :func:`kernel_score`.
    """
    _, x0, sigma = _checked(x0, x0, sigma)
    noise = torch.randn(x0.shape, generator=generator, device=x0.device, dtype=x0.dtype)
    return fold(x0 + per_row(sigma, x0) * noise)


def kernel_log_density(x, x0, sigma):
    """Log-density of the kernel for each coordinate; sum them for the point.

    Parameters and errors are those of :func:`kernel_score`.

    Returns
    -------
    torch.Tensor
        Natural logarithms, shape of ``x``.
    """

    def images(x, x0, sigma, reach):
        total, _ = image_sums(x, x0, sigma, reach)
        return total.log() - ((x - x0) / sigma) ** 2 / 2 - (sigma * math.sqrt(2 * math.pi)).log()

    def cosines(x, x0, sigma):
        return cosine_sums(x, x0, sigma)[0].log()

    return _by_size(images, cosines, *_checked(x, x0, sigma))


def kernel_score(x, x0, sigma):
    """Derivative of the kernel's log-density in ``x``.

    Exact up to rounding at all noise levels and any distance of ``x`` from ``x0``; 0 at both walls. It can be
    differentiated again.

    Parameters
    ----------
    x, x0 : torch.Tensor, shape (B, ...)
        Noisy and clean points, values in [0, 1], float32 or float64; half precision becomes float32. Values are not
        checked on a GPU, where the check would wait, nor under ``torch.func`` transforms and ``torch.compile``.
    sigma : torch.Tensor, shape (B,) or one that broadcasts to (B, ...), or float
        Standard deviation of the noise, above 0: one for each row, or with as many axes as ``x``, for each coordinate.

    Returns
    -------
    torch.Tensor
        Shape of ``x``; in units of 1 / x.

    Raises
    ------
    ValueError
        If shapes differ, sigma is not positive, or values lie outside [0, 1] or are integers.
    """

    def images(x, x0, sigma, reach):
        total, half = image_sums(x, x0, sigma, reach)
        return torch.add(x - x0, half / total, alpha=2) * (-1 / sigma**2)

    def cosines(x, x0, sigma):
        density, slope = cosine_sums(x, x0, sigma)
        return slope / density

    return _by_size(images, cosines, *_checked(x, x0, sigma))


def kernel_cdf(x, x0, sigma):
    """Probability that a draw from the kernel lies below ``x``, for each coordinate.

    Parameters and errors are those of :func:`kernel_score`.

    Returns
    -------
    torch.Tensor
        Shape of ``x``; 0 and 1 at the walls to rounding.
    """

    def images(x, x0, sigma, reach):
        scale = sigma * math.sqrt(2)
        places = [2 * k + sign * x0 for k in range(-reach, reach + 1) for sign in (1, -1)]
        return sum(torch.erf((x - y) / scale) + torch.erf(y / scale) for y in places) / 2

    def cosines(x, x0, sigma):
        waves = range(1, COSINES[x.dtype] + 1)
        strength = [2 / (k * math.pi) * torch.exp(-((k * math.pi * sigma) ** 2) / 2) for k in waves]
        angle, angle0 = math.pi * x, math.pi * x0
        return x + sum(
            s * (k * angle0).cos() * (k * angle).sin() for k, s in zip(waves, strength, strict=True)
        )

    return _by_size(images, cosines, *_checked(x, x0, sigma))


def image_sums(x, x0, sigma, reach):
    """Sums of w and w (x0 - y) / 2 over images y of x0; w is the density at x of the Gaussian at y over that at x0.

    No image is closer to x than x0 itself, so w never exceeds 1 and the score survives where the density underflows:
    the sums are the denominator and numerator of a softmax whose largest term is 1. We use powers of 2, since MKL's exp
    takes thirty times as long where it underflows.
    """
    rate = -2 / (math.log(2) * sigma**2)
    total, half = 1.0, 0.0
    for k in range(1, reach + 1):
        left, left0 = (x, x0) if k == 1 else (x + (k - 1), x0 + (k - 1))
        right, right0 = k - x, k - x0
        # This order keeps the digits of a small x0, and the score is 0 at both walls.
        up = ((right + x0) * (k * rate)).exp2()  # y = x0 + 2k
        down = ((x + right0) * (k * rate)).exp2()  # y = x0 - 2k
        above = (right * (right0 * rate)).exp2()  # y = 2k - x0
        below = (left * (left0 * rate)).exp2()  # y = 2 - 2k - x0
        total = total + (up + down) + (above + below)
        pair = torch.addcmul(down - up if k == 1 else k * (down - up), left0, below)
        half = half + torch.addcmul(pair, right0, above, value=-1)
    return total, half


def cosine_sums(x, x0, sigma):
    """The density and its derivative, from multiples of angles by Chebyshev's recurrences."""
    angle = math.pi * x
    cosine, cosine0 = angle.cos(), (math.pi * x0).cos()
    twice, twice0 = 2 * cosine, 2 * cosine0
    c, c0, ratio = cosine, cosine0, twice  # cos k angle, cos k angle0, sin (k + 1) angle / sin angle
    c_before, c0_before, ratio_before = 1.0, 1.0, 1.0
    strength = [2 * torch.exp(-((k * math.pi * sigma) ** 2) / 2) for k in range(1, COSINES[x.dtype] + 1)]
    slope = strength[0] * c0
    density = 1 + slope * c
    for k in range(2, COSINES[x.dtype] + 1):
        c, c_before = twice * c - c_before, c
        c0, c0_before = twice0 * c0 - c0_before, c0
        weight = strength[k - 1] * c0
        density = torch.addcmul(density, weight, c)
        slope = torch.addcmul(slope, weight, ratio, value=k)
        ratio, ratio_before = twice * ratio - ratio_before, ratio
    return density, (-math.pi * angle.sin()) * slope


def _by_size(images, cosines, x, x0, sigma):
    """Each row by the series that converges faster at its sigma."""
    reach = REACH[x.dtype]
    if x.device.type != "cpu" or not readable(x, x0, sigma):
        # Sorting rows would wait for the GPU, which can afford both series; under a transform it is impossible.
        row = per_row(sigma, x)
        fine = images(x, x0, row.clamp(max=BALANCE), reach)
        return torch.where(row >= BALANCE, cosines(x, x0, row.clamp(min=BALANCE)), fine)
    shape = x.shape
    if not shape or sigma.shape != shape[:1]:
        x, x0, sigma = (each.reshape(-1) for each in (x, x0, sigma.expand(shape)))
    x, x0 = ((each if each.ndim > 1 else each.unsqueeze(1)).flatten(1) for each in (x, x0))
    order = sigma.argsort()
    ends = torch.searchsorted(sigma[order], sigma.new_tensor([FEW_IMAGES, BALANCE])).tolist()
    rows = max(1, PIECE // max(1, x.shape[1]))
    found = []
    for near, chosen in zip((1, reach, None), order.tensor_split(ends), strict=True):
        for part in chosen.split(rows) if len(chosen) else ():
            given = x.index_select(0, part), x0.index_select(0, part), sigma[part].unsqueeze(1)
            found.append(images(*given, near) if near else cosines(*given))
    if not found:
        return x.reshape(shape)
    return torch.cat(found).index_select(0, order.argsort()).reshape(shape)


def per_row(values, x):
    """``values (B,)`` with as many axes as ``x (B, ...)``; unchanged if they already have them."""
    if values.ndim == x.ndim:
        return values
    return values.reshape(-1, *(1,) * (x.ndim - 1))


def check_cube(x, name):
    """Raise ValueError unless ``x`` holds floating-point numbers in [0, 1]; on a GPU values are not checked."""
    if not torch.is_floating_point(x):
        hint = ": divide by 255" if x.dtype == torch.uint8 else ""
        raise ValueError(f"{name} must hold floating-point numbers in [0, 1], got {x.dtype}{hint}")
    if x.device.type == "cpu" and x.numel() and readable(x):
        low, high = (value.item() for value in x.detach().aminmax())
        if not (low >= 0 and high <= 1):
            raise ValueError(f"{name} must lie in the cube: expects [0, 1], got {low:g} to {high:g}")


def checked_sigma(sigma, x, each=False):
    """Noise levels of the rows of ``x``, shape (B,), in its dtype and device; with ``each`` also one for each entry."""
    sigma, rows = torch.as_tensor(sigma, dtype=x.dtype, device=x.device), x.shape[:1]
    if sigma.ndim == 0:
        sigma = sigma.expand(rows)
    fits = (
        each and sigma.ndim == x.ndim and all(a in (1, b) for a, b in zip(sigma.shape, x.shape, strict=True))
    )
    if sigma.shape != rows and not fits:
        more = f", or as many axes as {tuple(x.shape)} and broadcast to it" if each else ""
        raise ValueError(
            f"sigma must be one number or have shape {tuple(rows)}{more}, got {tuple(sigma.shape)}"
        )
    if sigma.device.type == "cpu" and readable(sigma) and not ((sigma > 0) & sigma.isfinite()).all():
        worst = sigma[~((sigma > 0) & sigma.isfinite())][0].item()
        raise ValueError(f"sigma must be above 0 and finite, got {worst:g}")
    return sigma


def _checked(x, x0, sigma):
    if x.shape != x0.shape:
        raise ValueError(f"x and x0 must have one shape, got {tuple(x.shape)} and {tuple(x0.shape)}")
    check_cube(x0, "x0")
    if x is not x0:
        check_cube(x, "x")
    dtype = torch.promote_types(torch.promote_types(x.dtype, x0.dtype), torch.float32)
    x, x0 = x.to(dtype), x0.to(dtype)
    return x, x0, checked_sigma(sigma, x, each=True)
