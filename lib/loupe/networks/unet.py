"""A compact U-Net for diffusion on images, and the one of the diffusers package with the same interface.

After Ho, Jain and Abbeel, Denoising Diffusion Probabilistic Models, 2020, with the modulation of Dhariwal and Nichol,
Diffusion Models Beat GANs on Image Synthesis, 2021, and residual sums divided by the square root of 2, as in Song et
al., Score-Based Generative Modeling through Stochastic Differential Equations, 2021.
"""

import math

import torch
from torch import nn
from torch.nn.functional import avg_pool2d, dropout, interpolate, scaled_dot_product_attention, silu

from loupe.checks import whole
from loupe.errors import LoupeError
from loupe.networks.noise_embedding import LOG_SCALE, NoiseEmbedding, check_labels, noise_levels

CHANNELS_OF_A_HEAD = 64
BACKBONES = ("loupe", "diffusers")


def group_norm(channels):
    """Group normalization with 32 groups, 8 for at most 64 channels, or the next smaller divisor."""
    return nn.GroupNorm(largest_divisor(channels, 8 if channels <= 64 else 32), channels)


def largest_divisor(number, limit):
    """The largest divisor of a number up to the limit."""
    return next(d for d in range(min(number, limit), 0, -1) if number % d == 0)


def zeroed(layer):
    """The layer, with weights and biases set to 0."""
    for parameter in layer.parameters():
        nn.init.zeros_(parameter)
    return layer


class ResidualBlock(nn.Module):
    """Two normalized convolutions, the second modulated by the condition; added to the input, over the square root of 2."""

    def __init__(self, fan_in, fan_out, condition, dropout):
        super().__init__()
        self.dropout = dropout
        self.norm1 = group_norm(fan_in)
        self.conv1 = nn.Conv2d(fan_in, fan_out, 3, padding=1)
        self.film = nn.Linear(condition, 2 * fan_out)
        self.norm2 = group_norm(fan_out)
        self.conv2 = zeroed(nn.Conv2d(fan_out, fan_out, 3, padding=1))
        self.skip = nn.Conv2d(fan_in, fan_out, 1) if fan_in != fan_out else nn.Identity()

    def forward(self, x, condition):
        """``x (B, fan_in, H, W)`` and ``condition (B, condition)`` to (B, fan_out, H, W)."""
        h = self.conv1(silu(self.norm1(x)))
        scale, shift = self.film(condition)[..., None, None].chunk(2, dim=1)
        h = silu(torch.addcmul(shift, self.norm2(h), 1 + scale))
        h = self.conv2(dropout(h, self.dropout, self.training))
        return (self.skip(x) + h) * math.sqrt(0.5)


class Attention(nn.Module):
    """Self-attention of the pixels, one head for every 64 channels; added, over the square root of 2."""

    def __init__(self, channels):
        super().__init__()
        self.heads = largest_divisor(channels, max(1, channels // CHANNELS_OF_A_HEAD))
        self.norm = group_norm(channels)
        self.qkv = nn.Linear(channels, 3 * channels)
        self.out = zeroed(nn.Linear(channels, channels))

    def forward(self, x, condition=None):
        """``x (B, C, H, W)`` to the same shape; the condition is ignored."""
        B, C, H, W = x.shape
        # Pixels become rows of one matrix, the memory layout of channels-last tensors.
        qkv = self.qkv(self.norm(x).permute(0, 2, 3, 1)).reshape(B, H * W, 3, self.heads, C // self.heads)
        q, k, v = qkv.permute(2, 0, 3, 1, 4)
        h = self.out(scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(B, H, W, C))
        return (x + h.permute(0, 3, 1, 2)) * math.sqrt(0.5)


class Stage(nn.Module):
    """A residual block, optionally followed by attention."""

    def __init__(self, fan_in, fan_out, condition, dropout, attends):
        super().__init__()
        self.block = ResidualBlock(fan_in, fan_out, condition, dropout)
        self.attention = Attention(fan_out) if attends else nn.Identity()

    def forward(self, x, condition):
        """``x (B, fan_in, H, W)`` and ``condition (B, condition)`` to (B, fan_out, H, W)."""
        return self.attention(self.block(x, condition))


class UNet(nn.Module):
    """A U-Net from noisy images to images of the same size, conditioned on noise and class.

    The encoder has one level for each multiplier, of ``blocks`` residual blocks followed by 2 x 2 pooling. The middle
    has two blocks, with attention between them if there is attention anywhere. The decoder has ``blocks + 1`` residual
    blocks on each level, each with one skip connection from the encoder.

    Parameters
    ----------
    channels : int
        Of the images.
    out_channels : int, optional
        Channels of the output; by default as many as the input.
    width : int
        Channels of a level with multiplier 1. Below 16, normalization groups are single channels, which lose their
        means. The condition has four times this dimension.
    multipliers : sequence of int
        Channels of each level, divided by the width.
    blocks : int
        Residual blocks on each level of the encoder.
    attention : sequence of int, optional
        Image sizes, in pixels, of levels with self-attention after each block; by default the one nearest 16.
    size : int
        Height and width of the images.
    classes : int
        Labels are 0 to ``classes - 1``; ``classes`` itself is the null class, no label. With 0 there are no labels.
    dropout : float
        Share of the inputs of the second convolution of a block that training drops, in [0, 1).
    seed : int
        Of the initial weights. The output starts at 0.

    Raises
    ------
    ValueError
        For a size that cannot be halved as often as there are levels, attention where there is no level, numbers that
        are not positive, or a share outside [0, 1).

    Examples
    --------
    >>> sum(p.numel() for p in UNet(1, width=16, blocks=1, attention=(), size=16, classes=10).parameters())
    268785
    """

    def __init__(
        self,
        channels=3,
        *,
        out_channels=None,
        width=128,
        multipliers=(1, 2, 2),
        blocks=2,
        attention=None,
        size=32,
        classes=0,
        dropout=0.0,
        seed=0,
    ):
        super().__init__()
        out_channels = channels if out_channels is None else out_channels
        channels, out_channels, width, blocks, size, classes, multipliers = whole_options(
            channels, out_channels, width, blocks, size, classes, multipliers
        )
        sides, attention = check_options(multipliers, attention, size, dropout)
        self.channels, self.size = channels, size
        condition, wide = 4 * width, [width * m for m in multipliers]

        def stage(fan_in, fan_out, attends):
            return Stage(fan_in, fan_out, condition, dropout, attends)

        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)
            self.embedding = NoiseEmbedding(condition, classes=classes)
            self.stem = nn.Conv2d(channels, width, 3, padding=1)
            self.encoder, self.decoder = nn.ModuleList(), nn.ModuleList()
            now, kept = width, [width]
            for level, side in zip(wide, sides, strict=True):
                self.encoder.append(nn.ModuleList())
                for _ in range(blocks):
                    self.encoder[-1].append(stage(now, level, side in attention))
                    now = level
                    kept.append(now)
                if side != sides[-1]:
                    kept.append(now)  # the pooled output, too, is a skip connection
            self.middle = nn.ModuleList([stage(now, now, bool(attention)), stage(now, now, False)])
            for level, side in zip(reversed(wide), reversed(sides), strict=True):
                self.decoder.append(nn.ModuleList())
                for _ in range(blocks + 1):
                    self.decoder[-1].append(stage(now + kept.pop(), level, side in attention))
                    now = level
            self.norm = group_norm(now)
            self.head = zeroed(nn.Conv2d(now, out_channels, 3, padding=1))

    def forward(self, x, sigma, labels=None):
        """Output (B, out_channels, size, size).

        Parameters
        ----------
        x : torch.Tensor
            Of shape (B, channels, size, size), of the dtype of the weights.
        sigma : torch.Tensor or float
            Noise levels of shape (B,), or one for all. Not checked to be positive.
        labels : torch.Tensor, optional
            int64 of shape (B,), in [0, classes]; without them every sample gets the null class.

        Raises
        ------
        ValueError
            For wrong shapes, labels out of range, or labels without classes.
        """
        check_input(x, self.channels, self.size)
        condition = self.embedding(sigma, labels, len(x))
        x = self.stem(x)
        kept = [x]
        for k, level in enumerate(self.encoder):
            if k:
                x = avg_pool2d(x, 2)
                kept.append(x)
            for stage in level:
                x = stage(x, condition)
                kept.append(x)
        for stage in self.middle:
            x = stage(x, condition)
        for k, level in enumerate(self.decoder):
            if k:
                x = interpolate(x, scale_factor=2.0, mode="nearest")
            for stage in level:
                x = stage(torch.cat([x, kept.pop()], dim=1), condition)
        return self.head(silu(self.norm(x)))


class DiffusersUNet(nn.Module):
    """The U-Net of the diffusers package, with the call and options of :class:`UNet`.

    Its details differ from ours: one number of groups for all normalizations, learned convolutions for down- and
    upsampling, plain residual sums, an added condition instead of a modulation, as many sinusoids as channels on the
    first level, and an output that does not start at 0.

    Raises
    ------
    LoupeError
        If diffusers is not installed.
    ValueError
        As for :class:`UNet`.
    """

    def __init__(
        self,
        channels=3,
        *,
        out_channels=None,
        width=128,
        multipliers=(1, 2, 2),
        blocks=2,
        attention=None,
        size=32,
        classes=0,
        dropout=0.0,
        seed=0,
    ):
        super().__init__()
        out_channels = channels if out_channels is None else out_channels
        channels, out_channels, width, blocks, size, classes, multipliers = whole_options(
            channels, out_channels, width, blocks, size, classes, multipliers
        )
        sides, attention = check_options(multipliers, attention, size, dropout)
        try:
            from diffusers import UNet2DModel
        except ImportError as error:
            raise LoupeError(
                "backbone='diffusers' needs the package diffusers, which is not installed: "
                "`pip install 'loupe[diffusers]'`, in a checkout `pip install -e '.[diffusers]'`."
            ) from error
        self.channels, self.size, self.classes = channels, size, classes
        wide = [width * m for m in multipliers]
        kinds = ["Attn" if side in attention else "" for side in sides]
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)
            self.net = UNet2DModel(
                sample_size=size,
                in_channels=channels,
                out_channels=out_channels,
                block_out_channels=tuple(wide),
                layers_per_block=blocks,
                down_block_types=tuple(f"{kind}DownBlock2D" for kind in kinds),
                up_block_types=tuple(f"{kind}UpBlock2D" for kind in reversed(kinds)),
                add_attention=bool(attention),
                attention_head_dim=largest_divisor(math.gcd(*wide), CHANNELS_OF_A_HEAD),
                norm_num_groups=largest_divisor(math.gcd(*wide), 32),
                num_class_embeds=classes + 1 if classes else None,
                dropout=dropout,
            )

    def forward(self, x, sigma, labels=None):
        """Output (B, out_channels, size, size), as in :meth:`UNet.forward`."""
        check_input(x, self.channels, self.size)
        check_labels(labels, self.classes, len(x))
        if self.classes and labels is None:
            labels = torch.full((len(x),), self.classes, device=x.device)
        steps = LOG_SCALE * noise_levels(sigma, len(x), x.device).double().log()
        return self.net(x, steps.to(x.dtype), class_labels=labels).sample


def make_unet(*, backbone="loupe", **options):
    """A U-Net of this package or of diffusers, with the same options and the same call.

    Parameters
    ----------
    backbone : {"loupe", "diffusers"}
    **options
        As for :class:`UNet`.

    Returns
    -------
    torch.nn.Module
        Called with images, noise levels and, optionally, labels: see :meth:`UNet.forward`.

    Raises
    ------
    LoupeError
        If diffusers is requested but not installed.
    ValueError
        For an unknown backbone, or options that do not fit.
    """
    if backbone not in BACKBONES:
        raise ValueError(f"backbone must be one of {', '.join(map(repr, BACKBONES))}, got {backbone!r}")
    return (UNet if backbone == "loupe" else DiffusersUNet)(**options)


class TranslationUNet(nn.Module):
    """A U-Net that sees a source beside the image, called ``(x, x_T, ln(t) / 4)`` as diffusion bridges call networks.

    Parameters
    ----------
    unet : torch.nn.Module
        As of :func:`make_unet`, with as many channels as ``x`` and ``x_T`` have together.
    sources : bool
        False withholds the sources: the U-Net then has the channels of ``x`` alone.
    """

    def __init__(self, unet, sources=True):
        super().__init__()
        self.unet, self.sources = unet, sources

    def forward(self, x, x_T, log_time):
        """Outputs of the shape of ``x``."""
        seen = torch.cat([x, x_T], 1) if self.sources else x
        return self.unet(seen, (4 * log_time).exp())

    def at(self, x, t, x_T=None):
        """Outputs at times, one for all or one per sample."""
        return self(x, x_T, (torch.as_tensor(t, dtype=x.dtype, device=x.device).log() / 4).expand(len(x)))


def whole_options(channels, out_channels, width, blocks, size, classes, multipliers):
    """The options as int and tuples of int, from any kind of integers."""
    sizes = {
        "channels": channels,
        "out_channels": out_channels,
        "width": width,
        "blocks": blocks,
        "size": size,
    }
    found = [whole(name, value) for name, value in sizes.items()]
    return *found, whole("classes", classes, 0), tuple(whole("each of multipliers", m) for m in multipliers)


def check_options(multipliers, attention, size, dropout):
    """Image sizes of the levels in pixels, and those with attention; ValueError for invalid options."""
    if not multipliers:
        raise ValueError("multipliers must name at least one level, got none: (1,) makes one")
    if not 0 <= dropout < 1:
        raise ValueError(f"dropout must be at least 0 and below 1, got {dropout}")
    factor = 2 ** (len(multipliers) - 1)
    if size % factor:
        raise ValueError(
            f"size must be a multiple of {factor} for {len(multipliers)} levels, got {size}: pad the images, or take "
            "fewer levels"
        )
    sides = [size // 2**k for k in range(len(multipliers))]
    attention = (min(sides, key=lambda side: abs(side - 16)),) if attention is None else attention
    if strange := [side for side in attention if side not in sides]:
        raise ValueError(
            f"attention must name sides among {', '.join(map(str, sides))}, those of the levels, got {strange[0]}"
        )
    return sides, attention


def check_input(x, channels, size):
    """Raise ValueError unless ``x`` has shape (B, channels, size, size)."""
    if x.dim() != 4 or x.shape[1:] != (channels, size, size):
        raise ValueError(
            f"images must be of shape (B, {channels}, {size}, {size}) for this network, got {tuple(x.shape)}: resize "
            "them, or make the network for them"
        )
