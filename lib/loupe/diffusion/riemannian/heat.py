r"""Heat kernels of compact symmetric spaces: densities, scores, exact samples, and mixtures of them.

The kernel :math:`K_\sigma=e^{\sigma^2\Delta/2}` is the distribution of Brownian motion after the time :math:`\sigma^2`:
for small sigma, every orthonormal coordinate has variance :math:`\sigma^2`. Densities are relative to the Riemannian
volume, on SU(3) to normalised Haar measure. Scores are tangent vectors at the point.

References
----------
.. [1] Lou et al., Scaling Riemannian Diffusion Models, 2023.
.. [2] De Bortoli et al., Riemannian Score-Based Generative Modelling, 2022.
"""

import math

import torch

from loupe.checks import of_shape, whole
from loupe.derivatives import readable, slope
from loupe.diffusion.riemannian.radial import RadialKernel
from loupe.diffusion.riemannian.unitary import UnitaryKernel
from loupe.geometry import SpecialOrthogonal, SpecialUnitary, Sphere, Torus
from loupe.geometry.base import normal

METHODS = ("combined", "series", "varadhan")


class HeatKernel:
    """The heat kernel of a torus, a sphere, SO(3) or SU(3).

    Parameters
    ----------
    manifold : Torus, Sphere, SpecialOrthogonal or SpecialUnitary
        Of SU(n), n = 3.
    method : str
        ``"combined"`` is accurate at every sigma: geodesics or an expansion where sigma is small, eigenfunctions where
        it is large ([1]). The approximations of earlier work are ``"series"``, eigenfunctions cut off, whose log is
        meaningless where the sum is negative, and ``"varadhan"``, a Gaussian in the distance, the limit for small sigma
        ([2]). Samples are exact whatever the method.
    terms : int
        Where ``"series"`` ends: the highest degree, frequency or weight.

    Raises
    ------
    ValueError
        For any other manifold or method.

    Examples
    --------
    >>> kernel = HeatKernel(Sphere())
    >>> north = torch.tensor([[0.0, 0.0, 1.0]])
    >>> x = kernel.sample(north, sigma=0.5)
    >>> kernel.score(x, north, sigma=0.5).shape
    torch.Size([1, 3])
    """

    def __init__(self, manifold, method="combined", terms=10):
        if method not in METHODS:
            raise ValueError(f"method must be one of {', '.join(METHODS)}, got {method!r}")
        self.manifold, self.method, self.terms = manifold, method, whole("terms", terms)
        self._exact = _exact(manifold)

    def __repr__(self):
        return f"HeatKernel({self.manifold!r}, method={self.method!r})"

    def log_density(self, x, x0, sigma):
        """The log density at ``x`` of heat that starts at ``x0``.

        Parameters
        ----------
        x, x0 : torch.Tensor, shape (...) and that of a point
        sigma : float or torch.Tensor, shape (...)
            One number, or one per sample.

        Returns
        -------
        torch.Tensor, shape (...)

        Raises
        ------
        ValueError
            For points off the manifold, or a sigma that is not positive and finite or has another shape.
        TypeError
            For half precision.
        """
        return self._evaluate(x, x0, sigma)[0].to(x.dtype.to_real())

    def score(self, x, x0, sigma):
        """The gradient in ``x`` of :meth:`log_density`, of the shape of ``x``; arguments and errors as there."""
        return self._evaluate(x, x0, sigma)[1]

    def sample(self, x0, sigma, generator=None):
        """Exact draws, one for each ``x0``, of its shape; arguments and errors as in :meth:`log_density`."""
        with torch.no_grad():
            (x0,) = self._points(x0)
            return self._exact.sample(x0, per_sample(sigma, x0, self.manifold), generator)

    def radial_log_density(self, theta, sigma):
        """:meth:`log_density` on a sphere with a dimension, or SO(3), at an angle.

        Parameters
        ----------
        theta, sigma : float or torch.Tensor
            Of shapes that broadcast.
        """
        return self._radial(theta, sigma)[0]

    def radial_score(self, theta, sigma):
        """The derivative of :meth:`radial_log_density` in the angle."""
        return self._radial(theta, sigma)[1]

    def _points(self, *points):
        """The points, checked, of one shape and dtype."""
        for x in points:
            if (dtype := getattr(x, "dtype", None)) in (torch.float16, torch.bfloat16, torch.complex32):
                way = ".cfloat()" if dtype.is_complex else ".float()"
                raise TypeError(
                    f"heat kernels need single or double precision, got {dtype}: convert the points with {way}"
                )
        points = self.manifold.sound(*points)
        try:
            return torch.broadcast_tensors(*(x.to(points[0].dtype) for x in points))
        except RuntimeError:
            shapes = " and ".join(str(tuple(x.shape)) for x in points)
            raise ValueError(f"points must have shapes that broadcast, got {shapes}") from None

    def _evaluate(self, x, x0, sigma):
        x, x0 = self._points(x, x0)
        sigma = per_sample(sigma, x, self.manifold)
        if self.method == "varadhan":
            return _varadhan(self.manifold, x, x0, sigma)
        return self._exact.evaluate(x, x0, sigma, self.terms if self.method == "series" else None)

    def _radial(self, theta, sigma):
        if not isinstance(self._exact, RadialKernel) or self.manifold.event_shape is None:
            raise ValueError(
                f"no function of one angle is the heat kernel of {self.manifold!r}: take SpecialOrthogonal(3), or a "
                "sphere with its dimension, such as Sphere(2)"
            )
        theta = torch.as_tensor(theta)
        dtype = theta.dtype if theta.is_floating_point() else torch.get_default_dtype()
        theta, sigma = theta.double(), _positive(sigma, getattr(sigma, "shape", ()), theta.device)
        dimension = self._exact.dimension(torch.empty(self.manifold.event_shape))
        if self.method == "varadhan":
            log, slope = _gaussian(theta.square(), sigma, dimension), -theta / sigma.square()
        else:
            terms = self.terms if self.method == "series" else None
            log, slope = self._exact.radial((theta / 2).sin().square(), sigma, dimension, terms)
            slope = -theta.sin() * slope
        return log.to(dtype), slope.to(dtype)


def per_sample(sigma, x, manifold, zero=False):
    """Sigma in float64, one for each point of ``x``.

    Raises
    ------
    ValueError
        For numbers that are not positive and finite, or a shape that is not the batch's.
    TypeError
        For anything but numbers.
    """
    manifold.shaped(x)
    return _positive(sigma, x.shape[: x.dim() - manifold.ndim], x.device, zero)


def _positive(sigma, batch, device, zero=False):
    try:
        sigma = torch.as_tensor(sigma, dtype=torch.float64, device=device)
    except (TypeError, ValueError, RuntimeError):
        raise TypeError(f"sigma must be a number, or one per sample, got {sigma!r}") from None
    if sigma.ndim:
        of_shape("sigma (one number, or one per sample)", sigma, batch)
    if sigma.numel() and readable(sigma):
        low, high = (bound.item() for bound in sigma.detach().aminmax())
        if not ((low > 0 or (zero and low == 0)) and high < math.inf):
            raise ValueError(
                f"sigma must be {'0 or ' if zero else ''}positive and finite, got {high if low > 0 else low:g}"
            )
    return sigma.expand(batch)


def _exact(manifold):
    if isinstance(manifold, Torus):
        return TorusKernel(manifold)
    if isinstance(manifold, Sphere | SpecialOrthogonal):
        return RadialKernel(manifold)
    if isinstance(manifold, SpecialUnitary) and manifold.event_shape == (3, 3):
        return UnitaryKernel(manifold)
    raise ValueError(
        f"no heat kernel is known on {manifold!r}: choose Torus, Sphere, SpecialOrthogonal(3) or SpecialUnitary(3)"
    )


def _gaussian(square, sigma, dimension):
    return -square / (2 * sigma.square()) - dimension / 2 * (2 * math.pi * sigma.square()).log()


def _varadhan(manifold, x, x0, sigma):
    """The Gaussian in the distance, without the factor that makes its integral 1, and its score ([2])."""
    square = manifold.squared_dist(x, x0).double()
    log = _gaussian(square, sigma, manifold.dimension_like(x))
    if isinstance(manifold, SpecialUnitary):
        log = log + manifold.log_volume_like(x)
    weight = (1 / sigma.square()).to(x.dtype.to_real())
    return log, weight[(..., *[None] * manifold.ndim)] * manifold.log(x, x0)


class TorusKernel:
    """Independent coordinates; see :class:`~loupe.diffusion.riemannian.radial.RadialKernel`."""

    def __init__(self, manifold):
        self.manifold = manifold

    def evaluate(self, x, x0, sigma, terms=None):
        scale = sigma.to(x.dtype).unsqueeze(-1)

        def log(at):
            if terms is None:
                return self.manifold.log_wrapped_normal(x0, at, scale)
            frequency = torch.arange(1, terms + 1, dtype=x.dtype, device=x.device)
            damping = (-(frequency * scale.unsqueeze(-1)).square() / 2).exp()
            waves = 1 + 2 * (damping * (frequency * (at - x0).unsqueeze(-1)).cos()).sum(-1)
            return (waves / (2 * math.pi)).log().sum(-1)

        return log(x), slope(log, x)

    def sample(self, x0, sigma, generator=None):
        noise = normal(x0.shape, generator, x0.dtype, x0.device)
        return self.manifold.project(x0 + sigma.to(x0.dtype).unsqueeze(-1) * noise)


class HeatMixture:
    """A mixture of heat kernels, and of what heat makes of it: :func:`heat_mixture`."""

    def __init__(self, kernel, centers, weights, sigmas):
        self.kernel, self.centers, self.sigmas = kernel, centers, sigmas
        self.log_weights = (weights / weights.sum()).log()

    def log_density(self, x, sigma=0.0):
        """The log density after more heat.

        Parameters
        ----------
        x : torch.Tensor, shape (...) and that of a point
        sigma : float or torch.Tensor, shape (...)
            0 for the mixture itself.

        Returns
        -------
        torch.Tensor, shape (...)
        """
        return self._logs(*self._apart(x, sigma)).logsumexp(-1)

    def score(self, x, sigma=0.0):
        """The gradient of :meth:`log_density`, of the shape of ``x``."""
        apart = self._apart(x, sigma)
        share = self._logs(*apart).softmax(-1)[(..., *[None] * self.kernel.manifold.ndim)]
        return (share * self.kernel.score(*apart)).sum(-1 - self.kernel.manifold.ndim)

    def sample(self, n, generator=None):
        """``n`` independent draws."""
        weights = self.log_weights.exp()
        which = torch.multinomial(weights, whole("n", n), replacement=True, generator=generator)
        return self.kernel.sample(self.centers[which], self.sigmas[which], generator)

    def _apart(self, x, sigma):
        """Points, centers and sigmas with an axis for the components."""
        sigma = per_sample(sigma, x, self.kernel.manifold, zero=True).unsqueeze(-1)
        x = x.unsqueeze(-1 - self.kernel.manifold.ndim)
        return x, self.centers.to(x.device), torch.hypot(self.sigmas.to(x.device), sigma)

    def _logs(self, x, centers, sigma):
        return self.log_weights.to(x.device, x.dtype.to_real()) + self.kernel.log_density(x, centers, sigma)


def heat_mixture(manifold, centers, weights=None, sigmas=0.1):
    """A mixture of heat kernels, with exact density and score at every noise level: heat kernels add their variances.

    Parameters
    ----------
    manifold : Manifold
        As for :class:`HeatKernel`.
    centers : torch.Tensor, shape (K,) and that of a point
    weights : torch.Tensor, shape (K,), optional
        Positive; by default equal.
    sigmas : float or torch.Tensor, shape (K,)

    Returns
    -------
    HeatMixture
        With ``log_density(x, sigma=0)``, ``score(x, sigma=0)`` and ``sample(n, generator=None)``.

    Raises
    ------
    ValueError
        Without centers; for weights or sigmas that are not positive and finite, or of other shapes.
    """
    kernel = HeatKernel(manifold)
    (centers,) = kernel._points(centers)
    of_shape("centers", centers, (len(centers), *centers.shape[-manifold.ndim :]))
    sigmas = per_sample(sigmas, centers, manifold)
    weights = torch.ones_like(sigmas) if weights is None else torch.as_tensor(weights).to(sigmas)
    of_shape("weights", weights, sigmas.shape)
    if not len(weights):
        raise ValueError("a mixture needs at least one center, got none")
    low, high = weights.aminmax()
    if not 0 < low <= high < math.inf:
        raise ValueError(f"weights must be positive and finite, got {high if low > 0 else low:g}")
    return HeatMixture(kernel, centers, weights, sigmas)
