"""A transformer over tokens: bidirectional with noise conditioning, as in SEDD, or causal, as in GPT.

Both are the same network, so a comparison is about training, not about architecture.

After Peebles and Xie, Scalable Diffusion Models with Transformers, 2023, with the rotary position embeddings of Su et
al., RoFormer, 2021, at the sizes of Lou, Meng and Ermon, Discrete Diffusion Modeling by Estimating the Ratios of the
Data Distribution, 2024.
"""

import math
import warnings

import torch
from torch import nn
from torch.nn.functional import dropout, gelu, scaled_dot_product_attention, silu

from loupe.checks import of_shape, whole
from loupe.deprecation import renamed
from loupe.derivatives import readable

LONGEST_WAVE = 10_000
FREQUENCIES = 256


def rotary_angles(length, dim, *, device=None, dtype=torch.float32):
    """Cosines and sines of the rotation angles of coordinate pairs at each position, shape (length, dim / 2)."""
    frequencies = LONGEST_WAVE ** (-torch.arange(0, dim, 2, device=device, dtype=torch.float64) / dim)
    angles = torch.arange(length, device=device, dtype=torch.float64).outer(frequencies)
    return angles.cos().to(dtype), angles.sin().to(dtype)


def rotated(x, cosines, sines):
    """``x (..., length, heads, dim)``, with coordinates i and i + dim / 2 rotated by the angle of the position."""
    first, second = x.chunk(2, dim=-1)
    cosines, sines = cosines.unsqueeze(1), sines.unsqueeze(1)
    return torch.cat([first * cosines - second * sines, second * cosines + first * sines], dim=-1)


def noise_features(noise):
    """Cosines, then sines, of ``noise (B,)`` times falling frequencies, shape (B, 256), float64."""
    half = FREQUENCIES // 2
    index = torch.arange(half, device=noise.device, dtype=torch.float64)
    angles = noise.double().unsqueeze(1) * (-math.log(LONGEST_WAVE) / half * index).exp()
    return torch.cat([angles.cos(), angles.sin()], dim=1)


class Modulation(nn.Module):
    """Shift, scale and gate for parts of a block: linear in the condition, or learned constants without one.

    Linear ones start at 0, so a block starts as the identity; without a condition, gates start at ``gate``.
    """

    def __init__(self, width, condition, chunks, gate=1.0):
        super().__init__()
        self.chunks = chunks
        if condition:
            self.linear = nn.Linear(condition, chunks * width)
            nn.init.zeros_(self.linear.weight)
            nn.init.zeros_(self.linear.bias)
        else:
            gates = torch.tensor([[0.0], [0.0], [gate]]).repeat(-(-chunks // 3), 1)[:chunks]
            self.constant = nn.Parameter(gates.repeat(1, width).flatten())

    def forward(self, condition):
        """``parts`` tensors, of shape (B, 1, width) or (width,), for a condition (B, condition) or None."""
        if condition is None:
            return self.constant.chunk(self.chunks)
        return self.linear(condition).unsqueeze(1).chunk(self.chunks, dim=-1)


class Block(nn.Module):
    """Attention, then an MLP at each position; each is gated and added to its input."""

    def __init__(self, width, heads, condition, dropout, causal, gate=1.0):
        super().__init__()
        self.heads, self.dropout, self.causal = heads, dropout, causal
        self.modulation = Modulation(width, condition, 6, gate)
        self.norm1 = nn.LayerNorm(width, bias=False)
        self.qkv = nn.Linear(width, 3 * width, bias=False)
        self.out = nn.Linear(width, width, bias=False)
        self.norm2 = nn.LayerNorm(width, bias=False)
        self.widen = nn.Linear(width, 4 * width)
        self.narrow = nn.Linear(4 * width, width)

    def forward(self, x, condition, angles, seen=None, kept=None):
        """``x (B, L, width)`` to the same shape; ``seen`` marks the positions (last axis) that each may attend to.

        ``kept`` holds keys and values of earlier positions; those of the new ones are appended.
        """
        shift1, scale1, gate1, shift2, scale2, gate2 = self.modulation(condition)
        h = self._attention(torch.addcmul(shift1, self.norm1(x), 1 + scale1), angles, seen, kept)
        x = torch.addcmul(x, gate1, dropout(h, self.dropout, self.training))
        h = torch.addcmul(shift2, self.norm2(x), 1 + scale2)
        h = self.narrow(gelu(self.widen(h), approximate="tanh"))
        return torch.addcmul(x, gate2, dropout(h, self.dropout, self.training))

    def _attention(self, h, angles, seen, kept):
        B, L, width = h.shape
        qkv = self.qkv(h).view(B, L, 3 * self.heads, width // self.heads)
        turning, v = qkv.split([2 * self.heads, self.heads], dim=2)
        q, k = rotated(turning, *angles).to(v.dtype).chunk(2, dim=2)
        q, k, v = (part.transpose(1, 2) for part in (q, k, v))
        if kept is not None:
            k, v = (torch.cat([*kept.get(name, ()), part], dim=2) for name, part in (("k", k), ("v", v)))
            kept |= {"k": [k], "v": [v]}
        h = scaled_dot_product_attention(q, k, v, attn_mask=seen, is_causal=self.causal and seen is None)
        return self.out(h.transpose(1, 2).reshape(B, L, width))


@renamed(rate="dropout")
class Transformer(nn.Module):
    """A transformer from tokens to one number for each state at each position.

    Parameters
    ----------
    states : int
        Size of the vocabulary, special tokens included: of the input and of the output.
    width : int
        Embedding dimension; a multiple of ``2 * heads``.
    heads, blocks : int
    condition : int
        Dimension of the noise embedding, 128 in the SEDD paper; 0 for a network without noise input.
    dropout : float
        Fraction of the outputs of a block's layers that training drops.
    causal : bool
        Whether a position attends only to itself and earlier ones.
    length : int, optional
        Longest training sequence; a longer one gives a warning, since the network has not been trained on those rotary
        angles.
    seed : int
        Of the initial weights. The output starts at 0.
    gate : float
        Where the gates of the blocks start in a network without noise: at 0 each block is the identity at first, as it
        is in a network with noise.

    Raises
    ------
    ValueError
        If the width is not a multiple of ``2 * heads``.
    """

    def __init__(
        self,
        states,
        *,
        width,
        heads,
        blocks,
        condition=128,
        dropout=0.0,
        causal=False,
        length=None,
        seed=0,
        gate=1.0,
    ):
        super().__init__()
        sizes = {"states": states, "width": width, "heads": heads, "blocks": blocks}
        states, width, heads, blocks = (whole(name, value) for name, value in sizes.items())
        condition = whole("condition", condition, 0)
        if width % (2 * heads):
            raise ValueError(f"width must be a multiple of 2 * heads = {2 * heads}, got {width}")
        self.head_dim, self.condition, self.length = width // heads, condition, length
        self.states, self.causal = states, causal
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)
            self.embedding = nn.Embedding(states, width)
            nn.init.kaiming_uniform_(self.embedding.weight, a=math.sqrt(5))
            if condition:
                self.noise = nn.Sequential(
                    nn.Linear(FREQUENCIES, condition), nn.SiLU(), nn.Linear(condition, condition)
                )
            self.blocks = nn.ModuleList(
                Block(width, heads, condition, dropout, causal, gate) for _ in range(blocks)
            )
            self.norm = nn.LayerNorm(width, bias=False)
            self.modulation = Modulation(width, condition, 2)
            self.head = nn.Linear(width, states)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)
        self._angles = {}

    def forward(self, tokens, noise=None, padding=None, cache=None):
        """Outputs (..., L, states).

        Parameters
        ----------
        tokens : torch.Tensor of int64, shape (..., L)
        noise : torch.Tensor, shape (...), or float, optional
            Total noise, for a network that takes it.
        padding : torch.Tensor of bool, shape (..., L), optional
            True where there is no token: nothing looks there, and the output is of no use.
        cache : dict, optional
            For a causal network: what it keeps of the tokens before these (empty at first), and to which it adds.

        Raises
        ------
        ValueError
            For tokens that are no states of the network (looked at on the CPU only: elsewhere it would stop the
            device), missing noise, a padding of another shape, or a cache with padding or in a network that is not causal.
        """
        batch, L = tokens.shape[:-1], tokens.shape[-1]
        self._check_tokens(tokens)
        tokens = tokens.reshape(-1, L)
        past = cache[0]["k"][0].shape[2] if cache else 0
        if self.length is not None and self.length < past + L:
            warnings.warn(
                f"sequences of {past + L} tokens are longer than the {self.length} of training: expect worse",
                RuntimeWarning,
                stacklevel=2,
            )
        x = self.embedding(tokens)
        condition = None
        if self.condition:
            if noise is None:
                raise ValueError("this network takes the noise: call it with tokens and total noise (B,)")
            noise = torch.as_tensor(noise, device=x.device).expand(batch).reshape(-1)
            condition = silu(self.noise(noise_features(noise).to(x.dtype)))
        angles, seen = self._rotary(past + L, x), self._seen(padding, batch, L)
        if cache is not None:
            if padding is not None or not self.causal:
                raise ValueError("a cache is for a causal network, and for tokens without padding")
            angles = [each[past:] for each in angles]
            seen = torch.ones(L, past + L, dtype=torch.bool, device=x.device).tril(past)
        for k, block in enumerate(self.blocks):
            x = block(x, condition, angles, seen, None if cache is None else cache.setdefault(k, {}))
        shift, scale = self.modulation(condition)
        out = self.head(torch.addcmul(shift, self.norm(x), 1 + scale))
        return out.view(*batch, L, self.states)

    def _check_tokens(self, tokens):
        if not (readable(tokens) and tokens.device.type == "cpu" and tokens.numel()):
            return
        low, high = (bound.item() for bound in tokens.aminmax())
        if low < 0 or high >= self.states:
            raise ValueError(
                f"tokens must be from 0 to {self.states - 1} for this network, got {low} to {high}: use the vocabulary "
                "it was made for, or make it with more states (with a mask, one more than there are tokens)"
            )

    def _seen(self, padding, batch, L):
        """The attention mask for padding, (B, 1, 1 or L, L); None without padding."""
        if padding is None:
            return None
        seen = ~of_shape("padding", padding, (*batch, L)).reshape(-1, 1, 1, L)
        if self.causal:
            seen = seen & torch.ones(L, L, dtype=torch.bool, device=seen.device).tril()
        # Padding attends to itself: an empty attention row would be NaN and spoil the next block.
        return seen | torch.eye(L, dtype=torch.bool, device=seen.device)

    def _rotary(self, length, x):
        if torch.compiler.is_compiling():
            return rotary_angles(length, self.head_dim, device=x.device, dtype=x.dtype)
        # Tensors made in inference mode cannot be trained with.
        key = length, x.device, x.dtype, torch.is_inference_mode_enabled()
        if key not in self._angles:
            angles = rotary_angles(length, self.head_dim, device=x.device, dtype=x.dtype)
            self._angles = {key: angles}  # one length at a time is enough
        return self._angles[key]
