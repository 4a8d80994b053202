"""Manifolds with one interface, differentiable Fréchet means, and layers of hyperbolic networks.

Every manifold has the methods ``project``, ``to_tangent``, ``exp``, ``log``, ``dist``, ``inner``, ``transport``,
``random``, ``geodesic``, ``frame``, ``log_volume_density`` and ``divergence``; see :class:`~loupe.geometry.Manifold`.
"""

from loupe.geometry.averages import (
    ball_step,
    einstein_midpoint,
    gradient_step,
    hyperboloid_step,
    karcher_flow,
    karcher_step,
    riemannian_gradient_descent,
    tangent_mean,
)
from loupe.geometry.compact import SpecialOrthogonal, SpecialUnitary, Torus
from loupe.geometry.distributions import VonMisesFisher, WrappedNormal
from loupe.geometry.frechet import frechet_mean, frechet_variance, graph_frechet_mean
from loupe.geometry.hyperbolic import (
    Hyperboloid,
    PoincareBall,
    gyration,
    lorentz,
    mobius_add,
    to_ball,
    to_hyperboloid,
)
from loupe.geometry.implicit import implicit_argmin_vjp
from loupe.geometry.manifolds import Euclidean, Manifold, Sphere
from loupe.geometry.networks import RiemannianBatchNorm
from loupe.geometry.products import Product
from loupe.geometry.spd import SPD

__all__ = [
    "SPD",
    "Euclidean",
    "Hyperboloid",
    "Manifold",
    "PoincareBall",
    "Product",
    "RiemannianBatchNorm",
    "SpecialOrthogonal",
    "SpecialUnitary",
    "Sphere",
    "Torus",
    "VonMisesFisher",
    "WrappedNormal",
    "ball_step",
    "einstein_midpoint",
    "frechet_mean",
    "frechet_variance",
    "gradient_step",
    "graph_frechet_mean",
    "gyration",
    "hyperboloid_step",
    "implicit_argmin_vjp",
    "karcher_flow",
    "karcher_step",
    "lorentz",
    "mobius_add",
    "riemannian_gradient_descent",
    "tangent_mean",
    "to_ball",
    "to_hyperboloid",
]
