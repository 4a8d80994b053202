"""Released SEDD weights: their names and shapes, the network that they make, and the script that samples from them."""

import importlib.util
import re

import numpy as np
import pytest
import torch
from layers import array, generator, silu

from loupe.diffusion.discrete import Absorbing, load_released_sedd
from loupe.diffusion.discrete.released import translated
from loupe.errors import LoupeError
from loupe.experiment.folders import project_root
from loupe.networks.transformer import Transformer

HEADS, WIDTH, CONDITION, STATES, BLOCKS = 3, 24, 10, 8, 2
TINY = (WIDTH, BLOCKS, CONDITION, STATES)


def released(width, blocks, condition, states, device="cpu"):
    """Names and shapes of the official module SEDD (model/transformer.py), filled with random numbers."""
    linear = {"sigma_map.mlp.0": (256, condition), "sigma_map.mlp.2": (condition, condition)}
    shapes = {"vocab_embed.embedding": (states, width), "rotary_emb.inv_freq": (width // HEADS // 2,)}
    for k in range(blocks):
        shapes |= {f"blocks.{k}.norm{i}.weight": (width,) for i in (1, 2)}
        shapes |= {
            f"blocks.{k}.attn_qkv.weight": (3 * width, width),
            f"blocks.{k}.attn_out.weight": (width, width),
        }
        linear |= {f"blocks.{k}.mlp.0": (width, 4 * width), f"blocks.{k}.mlp.2": (4 * width, width)}
        linear[f"blocks.{k}.adaLN_modulation"] = (condition, 6 * width)
    shapes["output_layer.norm_final.weight"] = (width,)
    linear |= {
        "output_layer.linear": (width, states),
        "output_layer.adaLN_modulation": (condition, 2 * width),
    }
    for name, (fan_in, fan_out) in linear.items():
        shapes |= {f"{name}.weight": (fan_out, fan_in), f"{name}.bias": (fan_out,)}
    made = generator() if device == "cpu" else None
    return {name: 0.3 * torch.randn(shape, generator=made, device=device) for name, shape in shapes.items()}


def by_definition(w, x, sigma):
    """The official forward pass for one sequence in numpy; pairs of coordinates turn as complex numbers."""
    w = {name: array(value).astype(np.float64) for name, value in w.items()}

    def linear(name, h):
        return h @ w[f"{name}.weight"].T + w.get(f"{name}.bias", 0)

    def modulated(norm, h, shift, scale):
        h = (h - h.mean(-1, keepdims=True)) / np.sqrt(h.var(-1, keepdims=True) + 1e-5) * w[f"{norm}.weight"]
        return h * (1 + scale) + shift

    angles = sigma * np.exp(-np.log(10_000) * np.arange(128) / 128)
    c = linear("sigma_map.mlp.0", np.concatenate([np.cos(angles), np.sin(angles)]))
    c = silu(linear("sigma_map.mlp.2", silu(c)))
    h, L, D = w["vocab_embed.embedding"][x], len(x), WIDTH // HEADS
    turn = np.exp(1j * np.arange(L)[:, None] / 10_000 ** (np.arange(0, D, 2) / D))
    for k in range(BLOCKS):
        name = f"blocks.{k}"
        shift1, scale1, gate1, shift2, scale2, gate2 = np.split(linear(f"{name}.adaLN_modulation", c), 6)
        qkv = linear(f"{name}.attn_qkv", modulated(f"{name}.norm1", h, shift1, scale1)).reshape(
            L, 3, HEADS, D
        )
        out = np.zeros((L, HEADS, D))
        for head in range(HEADS):
            q, key = (
                (part[:, : D // 2] + 1j * part[:, D // 2 :]) * turn
                for part in (qkv[:, 0, head], qkv[:, 1, head])
            )
            weights = np.exp((q @ key.conj().T).real / np.sqrt(D))
            out[:, head] = weights / weights.sum(1, keepdims=True) @ qkv[:, 2, head]
        h = h + gate1 * linear(f"{name}.attn_out", out.reshape(L, WIDTH))
        inner = linear(f"{name}.mlp.0", modulated(f"{name}.norm2", h, shift2, scale2))
        inner = inner / 2 * (1 + np.tanh(np.sqrt(2 / np.pi) * (inner + 0.044715 * inner**3)))
        h = h + gate2 * linear(f"{name}.mlp.2", inner)
    shift, scale = np.split(linear("output_layer.adaLN_modulation", c), 2)
    out = linear("output_layer.linear", modulated("output_layer.norm_final", h, shift, scale))
    out = out - np.log(np.expm1(sigma)) - np.log(STATES - 1)
    out[np.arange(L), x] = 0
    return out


@pytest.mark.parametrize(
    ("width", "blocks", "millions"), [(768, 12, 169.6), (1024, 24, 424.5)], ids=["small", "medium"]
)
def test_the_released_sizes(width, blocks, millions):
    weights = translated(released(width, blocks, 128, 50_258, "meta"))
    with torch.device("meta"):
        network = Transformer(50_258, width=width, heads=width // 64, blocks=blocks)
    assert {name: value.shape for name, value in weights.items()} == {
        name: value.shape for name, value in network.state_dict().items()
    }
    assert round(sum(value.numel() for value in weights.values()) / 1e6, 1) == millions


def saved(path, weights):
    if path.suffix == ".safetensors":
        pytest.importorskip("safetensors.torch").save_file(weights, path)
    else:
        torch.save(weights, path)
    return path


@pytest.mark.parametrize("name", ["model.safetensors", "pytorch_model.bin"])
def test_the_forward_pass_by_definition(tmp_path, name):
    weights = released(*TINY)
    score = load_released_sedd(saved(tmp_path / name, weights), head=WIDTH // HEADS)
    assert score.graph == Absorbing(STATES - 1)
    assert not score.training
    x, sigma = torch.tensor([[0, 7, 3, 7, 1], [7, 7, 7, 2, 2]]), torch.tensor([0.3, 4.0])
    wanted = np.stack([by_definition(weights, *each) for each in zip(x.numpy(), sigma.numpy(), strict=True)])
    np.testing.assert_allclose(array(score(x, sigma)), wanted, rtol=2e-4, atol=2e-4)
    np.testing.assert_allclose(array(score.double()(x, sigma.double())), wanted, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(
    ("spoil", "match"),
    [
        (lambda w: w.pop("blocks.1.attn_out.weight"), 'Missing key.*"blocks.1.out.weight"'),
        (lambda w: w.pop("vocab_embed.embedding"), "embedding.weight"),
        (lambda w: w.update({"lm_head.weight": torch.zeros(2)}), 'Unexpected key.*"lm_head.weight"'),
        (
            lambda w: w.update({"blocks.0.norm1.weight": torch.zeros(5)}),
            "size mismatch for blocks.0.norm1.weight",
        ),
    ],
)
def test_other_weights(tmp_path, spoil, match):
    spoil(weights := released(*TINY))
    with pytest.raises(
        ValueError, match=f"(?s)holds no released SEDD .*{match}.*huggingface.co/louaaron/sedd-small"
    ):
        load_released_sedd(saved(tmp_path / "model.bin", weights), head=8)
    with pytest.raises(LoupeError, match=r"download model\.safetensors from"):
        load_released_sedd(tmp_path / "model.safetensors")


def test_the_script_samples_from_files(tmp_path, capsys):
    tokenizers = pytest.importorskip("tokenizers")
    tokenizer = tokenizers.Tokenizer(
        tokenizers.models.WordLevel({w: k for k, w in enumerate("abcdefg")}, unk_token="a")
    )
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    width = 64  # one head
    weights = released(width, 1, CONDITION, STATES)
    path = project_root() / "workflow" / "sample_released_sedd.py"
    spec = importlib.util.spec_from_file_location("sample_released_sedd", path)
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    script.main([
        "--weights", str(saved(tmp_path / "model.bin", weights)), "--tokenizer", str(tmp_path / "tokenizer.json"),
        "--prompt", "c d", "--prompt", "e f g", "--length", "9", "--steps", "4", "--top-p", "0.9",
    ])  # fmt: skip
    first, second = capsys.readouterr().out.strip().split("\n\n")
    assert re.fullmatch("c d( [a-g]){7}", first)
    assert re.fullmatch("e f g( [a-g]){6}", second)
