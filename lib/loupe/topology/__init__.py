"""Persistent homology of degree 0 and the dimensions of point sets: how rough is a training trajectory?

The lifetimes of connected components are the edge lengths of a minimum spanning tree; the rate at which their
sum grows with the number of points is a fractal dimension. This package has distances, lifetimes, the dimension and its
gradient, a training penalty, four competing estimators, the magnitude, and point clouds of known dimension for tests.
"""

from loupe.topology.clouds import CLOUDS, Cloud, embed_isometrically, stable_ou_path
from loupe.topology.dimension import DimensionEstimate, ph_dimension
from loupe.topology.distances import best_plane, pairwise_distances
from loupe.topology.estimators import ESTIMATORS, correlation_dimension, mle_dimension, pca_dimension, two_nn
from loupe.topology.loss_metric import loss_distances
from loupe.topology.magnitudes import magnitude, magnitude_weights, positive_magnitude
from loupe.topology.penalty import DimensionPenalty
from loupe.topology.persistence import h0_lifetimes, lifetime_sum, persistence_diagrams
from loupe.topology.regularizer import differentiable_ph_dimension
from loupe.topology.surrogates import surrogate_paths
from loupe.topology.trees import spanning_tree

__all__ = [
    "CLOUDS",
    "ESTIMATORS",
    "Cloud",
    "DimensionEstimate",
    "DimensionPenalty",
    "best_plane",
    "correlation_dimension",
    "differentiable_ph_dimension",
    "embed_isometrically",
    "h0_lifetimes",
    "lifetime_sum",
    "loss_distances",
    "magnitude",
    "magnitude_weights",
    "mle_dimension",
    "pairwise_distances",
    "pca_dimension",
    "persistence_diagrams",
    "ph_dimension",
    "positive_magnitude",
    "spanning_tree",
    "stable_ou_path",
    "surrogate_paths",
    "two_nn",
]
