"""Denoising losses: a model's predictions at noisy points, against the truth.

References
----------
.. [1] Ho et al., Denoising Diffusion Probabilistic Models, 2020.
.. [2] Song et al., Score-Based Generative Modeling through Stochastic Differential Equations, 2021.
"""

from loupe.diffusion.continuous.sde import per_sample, predicted


def denoising_loss(model, schedule, x0, t, noise, *, kind, weight=None, reduction="mean"):
    """Squared error of a model at noisy points, one for each sample ([1], eq. 14; [2], eq. 7).

    Parameters
    ----------
    model : callable
        ``(x, t)`` to predictions of the shape of ``x``.
    schedule : Schedule
        An SDE or a :class:`DDPMTable`.
    x0 : torch.Tensor, shape (B, ...)
    t : torch.Tensor, shape (B,)
        For example from :func:`training_times`.
    noise : torch.Tensor
        Shape of ``x0``, standard normal.
    kind : str
        What is predicted: ``"denoiser"``, ``"noise"``, ``"score"`` or ``"velocity"``.
    weight : torch.Tensor or float, optional
        One number or one per sample: ``sde.sigma(t)**2`` for scores, or ``sde.diffusion(t)**2 / 2`` with the sum of a
        score's errors for nats.
    reduction : str
        ``"mean"`` or ``"sum"`` over all axes but the batch.

    Returns
    -------
    torch.Tensor, shape (B,)

    Raises
    ------
    ValueError
        For an unknown kind or reduction, and for noise, times, weights or predictions of the wrong shape.
    """
    if reduction not in ("mean", "sum"):
        raise ValueError(f"reduction must be mean or sum, got {reduction!r}")
    target = schedule.target(kind, x0, noise, t)
    error = predicted(f"the {kind}", model, schedule.add_noise(x0, t, noise), t) - target
    values = getattr(error.square().unsqueeze(-1).flatten(1), reduction)(1)
    return values if weight is None else per_sample("the weight", weight, values) * values
