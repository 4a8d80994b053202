"""Time in a window: slice times, time embeddings, and temporal convolutions."""

import math

import torch
from torch import nn
from torch.nn.functional import leaky_relu

from loupe.checks import whole
from loupe.derivatives import transformed
from loupe.networks.egnn import check_sizes

LONGEST_WAVE = 10_000
SLOPE = 0.01
LARGEST_EXPLICIT = 16, 3  # slices and modes: beyond these the FFT is faster


def window_times(slices=None, times=None):
    """Times of slices as fractions of the window, float64 ``(P,)`` on the CPU.

    Parameters
    ----------
    slices : int, optional
        For ``p / P``, p = 1 to P.
    times : sequence of float, optional
        Increasing fractions in (0, 1]; then ``slices`` is ignored.

    Raises
    ------
    ValueError
        For fewer than one slice, or times that do not increase or leave the window.
    """
    if times is None:
        (slices,) = check_sizes(slices=slices)
        return torch.arange(1, slices + 1, dtype=torch.float64) / slices
    return torch.tensor(rising(times), dtype=torch.float64)


def rising(times):
    """Times as a list of float, which a compiler can read; ValueError unless they increase within (0, 1]."""
    times = times.tolist() if hasattr(times, "tolist") else times
    if not isinstance(times, (list, tuple)) or not times or any(isinstance(t, (list, tuple)) for t in times):
        raise ValueError(f"times must be a list of at least one fraction of the window, got {times!r}")
    times = [float(t) for t in times]
    for earlier, later in zip([0.0, *times], times, strict=False):
        if not earlier < later <= 1:
            raise ValueError(
                f"times must rise within (0, 1], got {later:g} after {earlier:g}: sort them and divide by the window"
            )
    return times


def time_embedding(tau, dim=32):
    """Sines of times, then cosines, at falling frequencies: section 3 of the paper.

    Parameters
    ----------
    tau : torch.Tensor
        Times ``(P,)``.
    dim : int
        At least 2; odd ones are padded with a 0.

    Returns
    -------
    torch.Tensor
        float64 ``(P, dim)``.

    Raises
    ------
    ValueError
        If there are fewer than two coordinates.

    Examples
    --------
    >>> time_embedding(torch.zeros(1), 4)
    tensor([[0., 0., 1., 1.]], dtype=torch.float64)
    """
    dim = whole("dim", dim, 2)
    half = dim // 2
    index = torch.arange(half, device=tau.device, dtype=torch.float64)
    waves = torch.exp(-math.log(LONGEST_WAVE) / max(half - 1, 1) * index)
    angles = tau.double().unsqueeze(1) * waves
    return torch.cat([angles.sin(), angles.cos(), angles.new_zeros(len(angles), dim % 2)], dim=1)


class TemporalConvolution(nn.Module):
    """Circular convolution along time by its lowest frequencies, added to the input.

    Each frequency ``k < modes`` has a complex matrix that mixes channels; others are dropped. Invariant features pass
    through a leaky ReLU before the sum. Vectors do not, and their matrices are the same for all coordinates, so the
    layer commutes with rotations.

    The imaginary part of frequency 0, and of the highest one where P is even, has no effect and gets no gradient: the
    inverse transform to real values ignores it.

    Parameters
    ----------
    channels : int
        Number of mixed channels: features, or 2 for positions and velocities.
    modes : int
        Frequencies kept, at most P // 2 + 1.
    vectors : bool
        Whether inputs are vectors.

    Notes
    -----
    Real and imaginary parts start uniform in [0, 1) / channels^2, for vectors in [0, 0.1). They are not centered.

    Few slices and frequencies are transformed by explicit matrices, others by the fast Fourier transform.
    """

    def __init__(self, channels, modes, *, vectors=False):
        super().__init__()
        channels, modes = check_sizes(channels=channels, modes=modes)
        self.modes, self.vectors = modes, vectors
        scale = 0.1 if vectors else 1 / channels**2
        self.weight = nn.Parameter(scale * torch.rand(channels, channels, modes, 2))
        self._matrices = {}

    def forward(self, z, between=()):
        """``z [P + Q, ..., C]`` to the same shape: features ``[P, n, H]`` or vectors ``[P, n, D, 2]``.

        Parameters
        ----------
        z : torch.Tensor
            At P evenly spaced times, and at Q others, which are convolved with these P but do not affect them.
        between : tuple of float
            Positions of the Q others, in slices from the first one.

        Raises
        ------
        ValueError
            If P slices have fewer frequencies than there are modes.
        """
        check_modes(self.modes, len(z) - len(between))
        convolved = self.convolved(z, between)
        return z + (convolved if self.vectors else leaky_relu(convolved, SLOPE))

    def convolved(self, z, between=()):
        """The term added to ``z``, before the leaky ReLU."""
        slices, modes = LARGEST_EXPLICIT
        explicit = between or (len(z) <= slices and self.modes <= modes)
        return self.by_matrices(z, between) if explicit else self.by_fft(z)

    def by_fft(self, z):
        """:meth:`convolved` by FFT; half precision is computed in single."""
        P, C, wide = len(z), z.shape[-1], working_dtype(z)
        modes = torch.fft.rfft(z.reshape(P, -1, C).to(wide), dim=0)[: self.modes]
        mixed = torch.bmm(modes, torch.view_as_complex(self.weight.to(wide)).permute(2, 0, 1))
        return torch.fft.irfft(mixed, n=P, dim=0).view(z.shape).to(z.dtype)

    def by_matrices(self, z, between=()):
        """:meth:`convolved` by explicit matrices, which include the signs of complex products."""
        P, C, wide = len(z) - len(between), z.shape[-1], working_dtype(z)
        analysis, parts, synthesis = self._dft(P, between, wide, z.device)
        modes = (analysis @ z[:P].reshape(P, -1).to(wide)).view(len(analysis), -1, C)
        weights = self.weight.to(wide).permute(2, 3, 0, 1).flatten(0, 1).index_select(0, parts)
        mixed = torch.bmm(modes, weights).view(len(analysis), -1)
        return (synthesis @ mixed).view(z.shape).to(z.dtype)

    def _dft(self, P, between, dtype, device):
        key = P, between, dtype, device
        if key in self._matrices:
            return self._matrices[key]
        with torch.inference_mode(False):  # tensors made in inference mode cannot be trained with
            analysis, parts, synthesis = dft_matrices(P, self.modes, between)
            found = analysis.to(device, dtype), parts.to(device), synthesis.to(device, dtype)
        if not (torch.compiler.is_compiling() or transformed()):  # tensors made there are not kept
            self._matrices = {key: found}  # one shape at a time is enough
        return found


def dft_matrices(P, modes, between=()):
    """A real transform of length P, a product with complex weights and the inverse transform, as a sum of products.

    Parameters
    ----------
    P, modes : int
    between : sequence of float
        Q further positions at which to evaluate the inverse transform, in slices from the first one.

    Returns
    -------
    analysis : torch.Tensor
        float64 ``(K, P)``: a row for each product of a real or imaginary part of a frequency and of its weight.
    parts : torch.Tensor
        int64 ``(K,)``: 2 k for the real and 2 k + 1 for the imaginary part of the weight of frequency k.
    synthesis : torch.Tensor
        float64 ``(P + Q, K)``.
    """
    analysis, parts, synthesis = [], [], []
    for k in range(modes):
        # Full turns are removed in integers: cosines of large angles would lose digits.
        angles = [2 * math.pi / P * (k * p % P) for p in (*range(P), *between)]
        cosine, minus_sine = [math.cos(angle) for angle in angles], [-math.sin(angle) for angle in angles]
        if k == 0 or 2 * k == P:
            analysis.append(cosine[:P])
            parts.append(2 * k)
            synthesis.append([c / P for c in cosine])
        else:
            analysis += [cosine[:P], cosine[:P], minus_sine[:P], minus_sine[:P]]
            parts += [2 * k, 2 * k + 1, 2 * k + 1, 2 * k]
            back = [2 / P * c for c in cosine], [2 / P * s for s in minus_sine]
            synthesis += [back[0], back[1], [-c for c in back[0]], back[1]]
    analysis, synthesis = (torch.tensor(m, dtype=torch.float64) for m in (analysis, synthesis))
    return analysis, torch.tensor(parts), synthesis.T.contiguous()


def working_dtype(z):
    """The dtype of ``z``; single instead of half precision."""
    return torch.float32 if z.dtype in (torch.float16, torch.bfloat16) else z.dtype


def check_modes(modes, slices):
    """ValueError if the time slices have fewer frequencies than modes."""
    if modes > slices // 2 + 1:
        raise ValueError(
            f"modes={modes} are more than the frequencies of {slices} slices: at most {slices // 2 + 1} can be kept"
        )
