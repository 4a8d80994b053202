"""Settings of the chapter: the defaults are the paper's, for text8."""

from typing import Literal

from pydantic import Field, model_validator

from loupe.experiment import Preset
from loupe.training import Training

TextName = Literal["cpython_topics", "novels27", "text8", "lm1b", "openwebtext"]


class TextTraining(Training):
    """How every network of the chapter is trained."""

    steps: int = Field(1_300_000, ge=1)
    """steps of the optimizer; the paper gives no total, this is the published configuration"""
    batch: int = Field(512, ge=1)
    """sequences in a step, over all processes"""
    optimizer: Literal["adamw"] = "adamw"
    """optimizer"""
    learning_rate: float = Field(3e-4, gt=0)
    """learning rate of AdamW"""
    warmup: int = Field(2500, ge=0)
    """steps of linear warmup"""
    clip: float = Field(1.0, gt=0)
    """largest norm of the gradient"""
    ema: float = Field(0.9999, ge=0, lt=1)
    """decay of the moving average of the weights, which is evaluated"""
    evaluations: int = Field(130, ge=1)
    """evaluations over the whole run, at steps evenly spaced in their logarithm"""
    precision: Literal["32-true", "bf16-mixed"] = "bf16-mixed"
    """precision of the forward pass; 32-true is the precision of the weights"""
    compile: bool = True
    """whether torch.compile compiles the network"""


class Config(Preset):
    """Settings of ``sedd``."""

    one_seed: tuple[int, ...] = (0,)
    """seed of experiments that repeat inside themselves, or are identities"""

    seeds: tuple[int, ...] = Field((0, 1, 2), min_length=1)
    """seeds of SEDD with both graphs, D3PM, MDLM and the autoregressive network: of weights, crops and noise"""

    extra_seeds: tuple[int, ...] = (0, 1, 2)
    """seeds of the network without time, of its control, and of concrete score matching"""

    sample_seeds: tuple[int, ...] = (0, 1, 2)
    """seeds whose weights are stored: these networks write text, and each has a judge"""

    long_seeds: tuple[int, ...] = ()
    """seeds of the two networks that are trained for more steps"""

    long_steps: int = Field(5_000_000, ge=1)
    """steps of the two networks that are trained for more steps"""

    toy_problems: int = Field(20, ge=2)
    """random distributions over all short texts on which identities are checked"""

    oracle_sequences: int = Field(50_000, ge=100)
    """texts that each sampler writes with exact scores of a bigram chain"""

    oracle_length: int = Field(32, ge=2)
    """tokens of a text written with exact scores"""

    oracle_steps: tuple[int, ...] = Field((2, 4, 8, 16, 32, 64), min_length=1)
    """numbers of steps of samplers with exact scores"""

    text: TextName = "text8"
    """text to learn"""

    characters: int | None = Field(None, ge=1000)
    """characters to learn from, from the start of the text; all by default"""

    length: int = Field(256, ge=2)
    """tokens of a sequence"""

    width: int = Field(768, ge=8)
    """coordinates of a position in the network"""

    heads: int = Field(12, ge=1)
    """heads of attention"""

    blocks: int = Field(12, ge=1)
    """blocks of the network"""

    condition: int = Field(128, ge=1)
    """coordinates of the embedding of the noise level"""

    dropout: float = Field(0.1, ge=0, lt=1)
    """dropout"""

    training: TextTraining = TextTraining()
    """training of every network"""

    stratified: bool = True
    """whether the times of a batch are stratified; independent in the published code"""

    d3pm_steps: int = Field(1000, ge=2)
    """steps of the chain of D3PM"""

    d3pm_auxiliary: float = Field(0.01, ge=0)
    """weight of the cross-entropy in the loss of D3PM"""

    curve_sequences: int = Field(256, ge=1)
    """validation sequences of an evaluation while training"""

    curve_times: int = Field(8, ge=1)
    """times for each validation sequence while training"""

    sequences: int = Field(1024, ge=20)
    """sequences of each held-out text on which a trained network is evaluated"""

    times: int = Field(1000, ge=1)
    """stratified times for each sequence on which a trained network is evaluated"""

    zero_shot: tuple[str, ...] = ("zs_wikitext2", "zs_ptb", "zs_shakespeare", "zs_state_union")
    """zero-shot texts, of kinds that no network is trained on"""

    judge_characters: int | None = Field(None, ge=1000)
    """characters that judges of samples learn from, after those of the others; by default the same text"""

    samples: int = Field(1000, ge=20)
    """texts that each sampler writes"""

    sample_batch: int = Field(256, ge=1)
    """texts that a sampler writes at once"""

    sample_steps: tuple[int, ...] = Field((32, 64, 128, 256, 512, 1024, 2048), min_length=2)
    """numbers of steps of the samplers"""

    race_steps: int = Field(1024, ge=1)
    """steps of samples that are sharpened, drawn in fewer digits, or fill a gap"""

    temperatures: tuple[float, ...] = (0.9, 0.8, 0.7)
    """temperatures of samples that are sharpened"""

    nuclei: tuple[float, ...] = (0.95, 0.9, 0.8)
    """probabilities of a nucleus of samples that are sharpened"""

    infill_top_p: float = Field(0.95, gt=0, le=1)
    """probability of the nucleus of the autoregressive network where a gap is filled"""

    infill: int = Field(64, ge=1)
    """tokens in the middle of a sequence that are to be filled in"""

    orders: int = Field(64, ge=1)
    """random orders in the bound on the likelihood of a filled gap"""

    @model_validator(mode="after")
    def _sensible(self):
        if self.width % (2 * self.heads):
            raise ValueError(f"width must be a multiple of 2 * heads, got {self.width}, {self.heads} heads")
        if self.infill > self.length - 2:
            raise ValueError(f"infill must leave a token on each side, got {self.infill} of {self.length}")
        for name in ("seeds", "extra_seeds"):
            if not set(self.sample_seeds) <= set(listed := getattr(self, name)):
                raise ValueError(f"sample_seeds must be among {name} {listed}, got {self.sample_seeds}")
        return self


PAPER_SETTINGS = Config()
GPU = PAPER_SETTINGS.override({
    "long_seeds": [0], "long_steps": 60_000, "oracle_sequences": 10_000, "text": "novels27", "characters": 4_000_000,
    "judge_characters": 4_000_000, "length": 64, "width": 96, "heads": 4, "blocks": 3, "condition": 32, "dropout": 0.0,
    "training": {
        "steps": 15_000, "batch": 32, "learning_rate": 2e-3, "beta2": 0.99, "warmup": 100, "schedule": "linear",
        "cooldown": 0.3, "ema": 0.999, "evaluations": 30, "precision": "32-true", "compile": False,
    },
    "times": 32, "zero_shot": ["zs_wikitext2", "zs_shakespeare", "zs_state_union"],  # the Penn Treebank is not free
    "samples": 512, "sample_batch": 64, "sample_steps": [4, 8, 16, 32, 64, 128, 256], "race_steps": 64, "infill": 16,
})  # fmt: skip
CPU = GPU.override({
    "toy_problems": 10, "oracle_steps": [2, 4, 8, 16], "extra_seeds": [0], "sample_seeds": [0], "long_seeds": [],
    "training": {"steps": 300, "warmup": 50, "ema": 0.99, "evaluations": 12},
    "curve_sequences": 64, "curve_times": 4, "sequences": 256, "times": 16, "samples": 128,
})  # fmt: skip
SMOKE = CPU.override({
    "toy_problems": 2, "oracle_sequences": 300, "oracle_steps": [2, 4, 8], "seeds": [0], "text": "cpython_topics",
    "characters": 200_000, "judge_characters": 200_000, "length": 32, "width": 32, "blocks": 2, "condition": 16,
    "training": {"steps": 20, "batch": 8, "warmup": 5, "evaluations": 2},
    "curve_sequences": 8, "curve_times": 2, "sequences": 24, "times": 2, "zero_shot": [], "samples": 20,
    "sample_batch": 20, "sample_steps": [2, 4, 8], "race_steps": 4, "infill": 8, "orders": 2,
})  # fmt: skip
PRESETS = {"smoke": SMOKE, "cpu": CPU, "gpu": GPU, "paper": PAPER_SETTINGS}
