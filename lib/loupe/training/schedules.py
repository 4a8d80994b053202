"""Learning-rate schedules: functions from the number of the step to a factor on the learning rate."""

import math


def warmup(steps):
    """A line from nearly 0 to 1 over the first ``steps`` steps, and 1 from then on.

    Examples
    --------
    >>> [warmup(4)(step) for step in (0, 1, 3, 9)]
    [0.25, 0.5, 1.0, 1.0]
    """
    return lambda step: min(1.0, (step + 1) / max(1, steps))


def cosine(steps, *, warm=0, floor=0.0):
    """A line up over ``warm`` steps, then half a cosine down to ``floor`` at step ``steps``, and ``floor`` afterwards.

    Examples
    --------
    >>> [round(cosine(10)(step), 3) for step in (0, 5, 10, 99)]
    [1.0, 0.5, 0.0, 0.0]
    """
    rise = warmup(warm)

    def factor(step):
        progress = min(1.0, max(0, step - warm) / max(1, steps - warm))
        return rise(step) * (floor + (1 - floor) * (1 + math.cos(math.pi * progress)) / 2)

    return factor


def staircase(*steps, factor=0.5):
    """1 at first, multiplied by ``factor`` from each of the given steps on.

    Examples
    --------
    >>> [staircase(100, 200)(step) for step in (0, 99, 100, 250)]
    [1.0, 1.0, 0.5, 0.25]
    """
    return lambda step: factor ** sum(step >= one for one in steps)
