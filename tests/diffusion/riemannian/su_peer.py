"""Writes su_peer.txt: SU(2) and SU(3) heat kernels of the package sun-diffusion, which needs numpy < 2.

Run it in an environment of its own: ``pip install sun-diffusion==1.0.0; python su_peer.py``. Rows: n, sigma, the
first two eigenangles, the log of the kernel up to a constant that depends on sigma, its derivative in the first of them.
"""

import itertools
from pathlib import Path

import numpy as np
import torch
from sun_diffusion.heat import log_sun_hk, sun_score_hk

torch.set_default_dtype(torch.float64)
rows, draw = [], np.random.default_rng(0)
for n, sigma in itertools.product((2, 3), (0.1, 0.3, 0.7, 1.5)):
    angles = torch.tensor(draw.uniform(-min(3 * sigma, 3), min(3 * sigma, 3), (10 * n - 10, n - 1)))
    width = torch.full((len(angles),), sigma)
    log, score = log_sun_hk(angles, width=width, eig_meas=False), sun_score_hk(angles, width=width)
    second = -angles if n == 2 else angles[:, 1:]
    rows += [
        (n, sigma, *row) for row in torch.cat([angles[:, :1], second, log[:, None], score[:, :1]], 1).tolist()
    ]
np.savetxt(Path(__file__).with_suffix(".txt"), rows, fmt="%.11g")
