"""Learning-rate schedules: functions from the step number to a factor on the learning rate."""

import math

from loupe.deprecation import renamed, renamed_names


def warmup(steps):
    """Linear warmup to 1 over the first ``steps`` steps, then 1.

    Examples
    --------
    >>> [warmup(4)(step) for step in (0, 1, 3, 9)]
    [0.25, 0.5, 1.0, 1.0]
    """
    return _rise(steps)


def _rise(steps):
    return lambda step: min(1.0, (step + 1) / max(1, steps))


@renamed(warm="warmup")
def cosine(steps, *, warmup=0, floor=0.0):
    """Linear warmup over ``warmup`` steps, then half a cosine down to ``floor`` at step ``steps``, then ``floor``.

    Examples
    --------
    >>> [round(cosine(10)(step), 3) for step in (0, 5, 10, 99)]
    [1.0, 0.5, 0.0, 0.0]
    """
    rise = _rise(warmup)

    def factor(step):
        progress = min(1.0, max(0, step - warmup) / max(1, steps - warmup))
        return rise(step) * (floor + (1 - floor) * (1 + math.cos(math.pi * progress)) / 2)

    return factor


def linear(steps, *, cooldown=1.0):
    """1 at first, then linear decay to 0 over the last ``cooldown`` fraction of the steps.

    Examples
    --------
    >>> [linear(10, cooldown=0.5)(step) for step in (0, 5, 9, 10)]
    [1.0, 1.0, 0.2, 0.0]
    """
    return lambda step: min(1.0, max(0, steps - step) / max(1.0, cooldown * steps))


def step_decay(*steps, factor=0.5):
    """1 at first, multiplied by ``factor`` from each of the given steps on.

    Examples
    --------
    >>> [step_decay(100, 200)(step) for step in (0, 99, 100, 250)]
    [1.0, 1.0, 0.5, 0.25]
    """
    return lambda step: factor ** sum(step >= one for one in steps)


__getattr__ = renamed_names(__name__, staircase="step_decay")
