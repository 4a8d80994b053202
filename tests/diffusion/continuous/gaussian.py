"""Gaussian data, of which everything is known: the score at all times, the flow's map, the density."""

import torch

DOUBLE = torch.float64
MEAN = torch.tensor([0.6, -0.3], dtype=DOUBLE)
COVARIANCE = torch.tensor([[0.5, 0.3], [0.3, 0.4]], dtype=DOUBLE)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def normal(*shape, seed=0, dtype=DOUBLE):
    return torch.randn(shape, generator=generator(seed), dtype=dtype)


def covariance(schedule, t):
    """Covariance of the noisy data at one time."""
    return schedule.alpha(t) ** 2 * COVARIANCE + schedule.sigma(t) ** 2 * torch.eye(2, dtype=DOUBLE)


def score_of(schedule):
    """The exact score, of points (B, 2) and times (B,)."""

    values, vectors = torch.linalg.eigh(COVARIANCE)

    def score(x, t):
        alpha, sigma = (each[:, None] for each in (schedule.alpha(t), schedule.sigma(t)))
        along = (x - alpha * MEAN) @ vectors
        return -along / (alpha**2 * values + sigma**2) @ vectors.T

    return score


def carried(schedule, x, t, s):
    """Where the probability flow carries points from time t to time s: all covariances have one eigenbasis."""

    def root(C, power):
        values, vectors = torch.linalg.eigh(C)
        return vectors * values**power @ vectors.T

    turn = root(covariance(schedule, s), 0.5) @ root(covariance(schedule, t), -0.5)
    return schedule.alpha(s) * MEAN + (x - schedule.alpha(t) * MEAN) @ turn.T


def log_density(schedule, x, t):
    mean = schedule.alpha(t) * MEAN
    return torch.distributions.MultivariateNormal(mean, covariance(schedule, t)).log_prob(x)
