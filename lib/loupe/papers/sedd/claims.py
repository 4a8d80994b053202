"""What the chapter judges: identities (C2 to C4, C14), arithmetic on the paper's tables (C1), and what networks do."""

import numpy as np

from loupe.errors import LoupeError
from loupe.experiment import Claim, Measure, at_least, at_most, between
from loupe.experiment.claims import t_interval
from loupe.metrics import loglog_fit
from loupe.papers.sedd.claims_reported import LM1B, ZERO_SHOT

EVERYWHERE = ("smoke", "cpu", "gpu", "paper")
FULL = ("cpu", "gpu", "paper")
FEW_STEPS = "twenty steps of training say nothing"
EARLY = (2, 4)  # numbers of steps at which Tweedie is expected to win


# --- arithmetic and identities ------------------------------------------------------------------------------


def _headlines(results):
    small, medium = ZERO_SHOT["small"], ZERO_SHOT["medium"]
    ours = np.array(small["SEDD Absorb"])
    lower = {name: 1 - ours / np.array(small[name]) for name in ("D3PM", "PLAID")}
    older = [LM1B[name] for name in ("DiffusionBert", "D3PM Absorb", "Diffusion-LM", "BERT-Mouth")]
    measures = [
        Measure("LM1B: perplexity above the autoregressive one", LM1B["SEDD Absorb"] - LM1B["autoregressive"],
                at_most(1), basis="table 3"),
        Measure("LM1B: least factor over an earlier diffusion model", min(older) / LM1B["SEDD Absorb"],
                at_least(2), basis="table 3; “at least 2×”"),
    ]  # fmt: skip
    for name, share in lower.items():
        label = f"zero-shot: least reduction against {name}"
        measures.append(
            Measure(label, float(share.min()), at_least(0.25), basis="table 1, 5 sets; “25–75 %”")
        )
    for size, table in (("small", small), ("medium", medium)):
        wins = sum(a < b for a, b in zip(table["SEDD Absorb"], table["GPT-2"], strict=True))
        measures.append(
            Measure(f"sets of 5 on which {size} SEDD beats GPT-2", wins, at_least(3), basis="table 1")
        )
    return measures


def _same_gradient(results):
    errors = results["identities"].first["gradient_errors"]
    return [
        Measure(
            f"largest difference, {name}", float(errors[..., k].max()), at_most(1e-10), basis=_toys(errors)
        )
        for k, name in enumerate(("implicit form", "denoising form"))
    ]


def _bound_is_tight(results):
    run = results["identities"].first
    errors, excess = run["identity_error"], run["excess"]
    return [
        Measure(
            "largest error of the identity, any text", float(errors.max()), at_most(1e-9), basis=_toys(errors)
        ),
        Measure("least excess of a wrong score, nats", float(excess.min()), at_least(0), basis=_toys(errors)),
    ]


def _tweedie_is_best(results):
    run = results["identities"].first
    tweedie, euler = run["tweedie"], run["euler"]  # (problems, graphs, 3 log-linear and 3 geometric steps)
    twins = np.abs(tweedie - euler)[:, 0, :3]
    basis = _toys(tweedie)
    return [
        Measure(
            "largest error of a token's law", float(run["marginal_error"].max()), at_most(1e-12), basis=basis
        ),
        Measure(
            "largest KL above Euler's, nats", float((tweedie - euler).max()), at_most(1e-12), basis=basis
        ),
        Measure("masks, log-linear: largest difference", float(twins.max()), at_most(1e-12), basis=basis),
    ]


def _toys(values):
    return f"{values.shape[0]} random laws of 81 texts, {values.shape[1]} graphs"


def _one_loss_one_law(results):
    run = results["identities"].first
    return [
        Measure("largest relative difference of the losses, float32", float(run["loss_gap"]), at_most(1e-6),
                basis="256 draws"),
        Measure("tokens that differ with the cache", int(run["cache_differences"]), at_most(0), basis="64 texts"),
    ]  # fmt: skip


# --- likelihood ---------------------------------------------------------------------------------------------


def bits(runs, text="valid"):
    """Mean bits per token of each seed."""
    return runs[f"bits_{text}"].mean(axis=1)


def paired(ours, theirs, label, accepts, text="valid"):
    """The mean difference of bits per token: over seeds that both have, or with one seed over its sequences."""
    seeds = [seed for seed in ours.seeds if seed in theirs.seeds]
    a, b = (
        np.stack([runs[f"bits_{text}"][list(runs.seeds).index(seed)] for seed in seeds])
        for runs in (ours, theirs)
    )
    if len(seeds) > 1:
        return Measure.of_seeds(label, (a - b).mean(axis=1), accepts)
    return of_texts(label, (a - b)[0], accepts)


def of_texts(label, values, accepts):
    """A mean over texts of one network, with its interval."""
    low, high = t_interval(values.tolist())
    return Measure(
        label, float(values.mean()), accepts, low, high, f"one seed, 95 % t interval over {len(values)} texts"
    )


def _masks_beat_uniform(results):
    return [paired(results["sedd_absorb"], results["sedd_uniform"], "bits per character", at_most(0))]


def _order_beats_masks(results):
    return [paired(results["sedd_absorb"], results["autoregressive"], "bits per character", at_least(0))]


def _sedd_beats_d3pm(results):
    return [paired(results["sedd_absorb"], results["d3pm"], "bits per character", at_most(0))]


def _concrete_score_fails(results):
    ours, theirs = results["sedd_absorb"], results["concrete_score"]
    seeds = [seed for seed in theirs.seeds if seed in ours.seeds]
    a, b = (
        np.stack([runs["bits_valid"][list(runs.seeds).index(seed)] for seed in seeds])
        for runs in (ours, theirs)
    )
    label, accepts = "bits over those of score entropy", at_least(1.5)
    if len(seeds) > 1:
        return [Measure.of_seeds(label, b.mean(axis=1) / a.mean(axis=1), accepts)]
    ratio = b.mean() / a.mean()
    # The ratio of means varies as the mean of (b - ratio a) / mean a.
    half = 1.96 * (b - ratio * a).std(ddof=1) / (a.mean() * a.size**0.5)
    basis = f"one seed, 95 % interval over {a.size} texts; {b.mean():.2f} and {a.mean():.2f}"
    return [Measure(label, float(ratio), accepts, ratio - half, ratio + half, basis)]


def _transfers(results):
    ours, theirs = results["sedd_absorb"], results["sedd_uniform"]
    return [
        paired(ours, theirs, f"{text}: absorb less uniform, bits", at_most(0), text)
        for text in ours.first["texts"]
        if text != "valid"
    ]


# --- samples ------------------------------------------------------------------------------------------------


def quality(run, method="tweedie"):
    """Judge's bits per character and distance of bigrams at each number of steps."""
    steps = run["sample_steps"]
    return tuple(
        np.array([np.mean(run[f"{method} {n} {what}"]) for n in steps]) for what in ("bits", "bigrams")
    )


def _more_steps_are_better(results):
    from scipy.stats import spearmanr

    absorb, uniform = results["sedd_absorb"].first, results["sedd_uniform"].first
    steps = absorb["sample_steps"]
    found, distances = quality(absorb)
    falling, _ = quality(uniform)
    # Steps beyond the length change nothing any more: there is the floor.
    above = steps <= absorb[f"tweedie {steps[0]} tokens"].shape[1]
    gains = [bits[above][-3] - bits[above][-1] for bits in (falling, found)]
    basis = f"one seed, {len(steps)} numbers of steps, {len(absorb['held out bits'])} texts each"
    return [
        Measure("absorb: rank correlation of steps and bits", spearmanr(steps, found).statistic, at_most(-0.9),
                basis=basis),
        Measure("absorb: the same with the distance of bigrams", spearmanr(steps, distances).statistic, at_most(-0.9),
                basis=basis),
        Measure("absorb: R² of a line, log perplexity on log steps, up to the length",
                loglog_fit(steps[above], 2 ** found[above])[2], at_least(0.9), basis=basis),
        Measure("bits gained over the last two doublings up to the length, uniform less absorb",
                float(gains[0] - gains[1]), at_most(0), basis=basis),
    ]  # fmt: skip


def _better_than_autoregressive(results):
    absorb, causal = results["sedd_absorb"].first, results["autoregressive"].first
    most = absorb["sample_steps"][-1]
    ours, theirs = absorb[f"tweedie {most} bits"], causal["autoregressive bits"]
    gap = theirs.mean() - ours.mean()
    margin = 1.96 * np.sqrt(ours.var(ddof=1) / len(ours) + theirs.var(ddof=1) / len(theirs))
    entropy = absorb[f"tweedie {most} entropy"].mean() / absorb["held out entropy"].mean()
    if abs(entropy - 1) > 0.02:
        raise LoupeError(
            f"the text of SEDD has {entropy:.3f} times the entropy of real text: bits do not compare"
        )
    basis = (
        f"one seed, {len(ours)} texts each, {most} steps, drawn exactly; perplexity {2 ** ours.mean():.1f} against "
        f"{2 ** theirs.mean():.1f}; entropy {entropy:.3f} times that of real text"
    )
    label = "judge's bits that autoregressive text costs more"
    return [Measure(label, gap, at_least(0), gap - margin, gap + margin, basis)]


def _tweedie_beats_euler(results):
    run = results["oracle_samplers"].first
    names, steps = list(run["samplers"]), list(run["steps"])
    distance = {name: row for name, row in zip(names, run["distances"], strict=True)}
    twins = np.nanmax(
        np.abs(distance["absorbing, log-linear, tweedie"] - distance["absorbing, log-linear, euler"])
    )
    measures = [
        Measure(
            "absorbing, log-linear: largest difference", float(twins), at_most(1e-3), basis="exact scores"
        )
    ]
    for graph in ("absorbing", "uniform"):
        tweedie, euler = (distance[f"{graph}, geometric, {method}"] for method in ("tweedie", "euler"))
        for n in EARLY:
            gap = float((tweedie - euler)[steps.index(n)])
            measures.append(
                Measure(
                    f"{graph}, geometric, {n} steps: distance, Tweedie less Euler",
                    gap,
                    at_most(0),
                    basis="exact scores",
                )
            )
    return measures


def _both_sides_help(results):
    run = results["sedd_absorb"].first
    gap = run["infill_bits_both"] - run["infill_bits_before"]
    return [of_texts("bits per character of the middle, both sides less one", gap, at_most(0))]


def expected_evaluations(steps, length):
    """Network evaluations of a sampler that asks only after a change: ``n (1 - (1 - 1/n)**L)``."""
    steps = np.asarray(steps, dtype=float)
    return steps * (1 - (1 - 1 / steps) ** length)


def _cache_saves(results):
    run = results["time_free"].first
    measures = []
    for steps, asked in zip(run["sample_steps"], run["evaluations"], strict=True):
        wanted = float(expected_evaluations(steps, run["length"]))
        # Where no evaluation is ever saved there is no spread: a mean over texts is as exact as one of them in all.
        margin = 3 * asked.std(ddof=1) / len(asked) ** 0.5 + 1 / len(asked)
        measures.append(
            Measure(f"{steps} steps: evaluations of a text, expected {wanted:.1f}", float(asked.mean()),
                    between(wanted - margin, wanted + margin), basis=f"{len(asked)} texts")
        )  # fmt: skip
    return measures


CLAIMS = (
    Claim(
        "C1", "SEDD nearly matches autoregressive models on LM1B, beats earlier language diffusion by 25 to 75 %, and "
        "beats GPT-2 on most zero-shot sets.",
        "abstract, tables 1 and 3", "“25–75 %”, “at least 2×”", "arithmetic", "arithmetic on the paper's own tables",
        _headlines, EVERYWHERE,
    ),
    Claim(
        "C2", "Explicit, implicit and denoising score entropy have the same gradient.",
        "Prop. 3.3, Thm 3.4", "theorems", "exact", "difference below 10⁻¹⁰ on all texts of a toy",
        _same_gradient, EVERYWHERE,
    ),
    Claim(
        "C3", "The diffusion-weighted loss is a bound of the negative log-likelihood, tight at the true score.",
        "Thm 3.6", "a theorem", "exact", "identity below 10⁻⁹ for every text, and no less with wrong scores",
        _bound_is_tight, EVERYWHERE,
    ),
    Claim(
        "C4", "The Tweedie step is the best among steps that draw tokens independently of each other.",
        "Thm 4.2", "a theorem", "exact", "each token's law true to 10⁻¹², KL never above Euler's",
        _tweedie_is_best, EVERYWHERE,
    ),
    Claim(
        "C5", "Masks for noise learn text better than uniform tokens.", "Table 2, text8", "1.39 against 1.47",
        "statistical", "paired difference of bits per character below 0", _masks_beat_uniform, FULL, FEW_STEPS,
    ),
    Claim(
        "C6", "On single characters an autoregressive network is still better.", "Table 2, text8",
        "1.39 against 1.23", "statistical", "paired difference of bits per character above 0",
        _order_beats_masks, FULL, FEW_STEPS,
    ),
    Claim(
        "C7", "SEDD with masks is better than D3PM with masks.", "Table 2, text8", "1.39 against 1.45",
        "statistical", "paired difference of bits per character below 0", _sedd_beats_d3pm, FULL, FEW_STEPS,
    ),
    Claim(
        "C8", "Score entropy trains; concrete score matching does not.", "App. D.1", "loss 3 to 4 times higher",
        "statistical", "bits per character above 1.5 times those of score entropy, equal steps",
        _concrete_score_fails, FULL, FEW_STEPS,
    ),
    Claim(
        "C9", "More steps write better text: a line in log-log for masks, while uniform noise flattens.",
        "Figs. 1 and 2", "shown in figures", "statistical",
        "rank correlation at most −0.9; up to as many steps as tokens, R² above 0.9 and less gained by uniform",
        _more_steps_are_better, FULL, FEW_STEPS,
    ),
    Claim(
        "C10", "With many steps SEDD writes better text than an autoregressive model does without annealing.",
        "abstract, Fig. 1", "6 to 8 times lower generative perplexity", "statistical",
        "fewer bits under the judge; only asked where the entropy is within 2 % of real text",
        _better_than_autoregressive, FULL, FEW_STEPS,
    ),
    Claim(
        "C11", "Tweedie steps write better text than Euler steps.", "Fig. 2", "1 to 4 points of perplexity",
        "statistical", "equal for masks and log-linear noise; nearer to the true bigrams at 2 and 4 steps otherwise",
        _tweedie_beats_euler, FULL, "smoke writes too few texts",
    ),
    Claim(
        "C12", "A text can be filled in anywhere, and what stands behind a gap helps to fill it.",
        "Table 4, Table 5", "MAUVE 0.942 for infilling", "statistical",
        "bits of the true middle lower with both sides than with one", _both_sides_help, FULL, FEW_STEPS,
    ),
    Claim(
        "C13", "What masks gain carries over to texts of other kinds.", "Table 1", "masks ahead on all sets",
        "statistical", "paired difference of bits per character below 0 on every set", _transfers, FULL, FEW_STEPS,
    ),
    Claim(
        "C14", "Beyond the paper: with normalised scores SEDD's loss is that of masked language models, and a network "
        "without time that is asked only after a change writes the same text.",
        "later work: MDLM, RADD", "not in the paper", "exact",
        "losses equal to 10⁻⁶ in float32, texts identical with and without the cache", _one_loss_one_law, EVERYWHERE,
    ),
    Claim(
        "C15", "Beyond the paper: a network without time is asked n (1 − (1 − 1/n)ᴸ) times for a text.",
        "later work: RADD", "not in the paper", "statistical",
        "mean evaluations within three standard errors, and one among all texts",
        _cache_saves, FULL, FEW_STEPS,
    ),
)  # fmt: skip
