"""Numbers of the paper that the chapter compares with: Lou, Meng and Ermon 2024, current arXiv version."""

ZERO_SHOT_SETS = ("LAMBADA", "WikiText 2", "PTB", "WikiText 103", "1BW")
ZERO_SHOT = {
    "small": {
        "GPT-2": (45.04, 42.43, 138.43, 41.60, 75.20),
        "SEDD Absorb": (50.92, 41.84, 114.24, 40.62, 79.29),
        "SEDD Uniform": (65.40, 50.27, 140.12, 49.60, 101.37),
        "D3PM": (93.47, 77.28, 200.82, 75.16, 138.92),
        "PLAID": (57.28, 51.80, 142.60, 50.86, 91.12),
    },
    "medium": {
        "GPT-2": (35.66, 31.80, 123.14, 31.39, 55.72),
        "SEDD Absorb": (42.77, 31.04, 87.12, 29.98, 61.19),
        "SEDD Uniform": (51.28, 38.93, 102.28, 36.81, 79.12),
    },
}
"""Perplexities of table 1; those of diffusion models are upper bounds. Of 1BW GPT-2's was not measured again."""

TEXT8 = {
    "autoregressive transformer": 1.23, "SEDD Absorb": 1.39, "D3PM Absorb": 1.45, "SEDD Uniform": 1.47,
    "D3PM Uniform": 1.61,
}  # fmt: skip
"""Bits per character of table 2, some of its rows."""

LM1B = {
    "autoregressive": 31.98, "SEDD Absorb": 32.79, "SEDD Uniform": 40.25, "DiffusionBert": 63.78, "D3PM Absorb": 77.50,
    "Diffusion-LM": 118.62, "BERT-Mouth": 142.89,
}  # fmt: skip
"""Perplexities of table 3."""
