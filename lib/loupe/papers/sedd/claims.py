"""What the chapter judges: identities (C2 to C4, C14), arithmetic on the paper's tables (C1), and what networks do."""

import math

import numpy as np

from loupe.diffusion.discrete import expected_evaluations
from loupe.experiment import Claim, Measure, at_least, at_most, between
from loupe.experiment.claims import too_small
from loupe.experiment.results import of_shared_seeds, row
from loupe.metrics import loglog_fit
from loupe.papers.sedd.claims_reported import LM1B, ZERO_SHOT

EVERYWHERE = ("smoke", "cpu", "gpu", "paper")
FULL = ("cpu", "gpu", "paper")
FEW_STEPS = "twenty training steps are too few"
IGNORANT = math.log2(27)  # bits per character of uniform guessing
MATCHED = 0.1  # bits per character between networks whose texts may be compared


# --- arithmetic and identities ------------------------------------------------------------------------------


def headlines(results):
    """What the abstract says, on the paper's tables; the control is D3PM in the place of SEDD."""
    pairs = zip(_on_tables("SEDD Absorb"), _on_tables("D3PM"), strict=True)
    return [measure.against("D3PM in SEDD's place", control.value) for measure, control in pairs]


def _on_tables(name):
    lm1b, rows = LM1B[{"D3PM": "D3PM Absorb"}.get(name, name)], ZERO_SHOT["small"]
    older = min(LM1B[one] for one in ("DiffusionBert", "D3PM Absorb", "Diffusion-LM", "BERT-Mouth"))
    behind, label = lm1b - LM1B["autoregressive"], "LM1B: smallest factor over an earlier diffusion model"
    yield Measure("LM1B: perplexity minus the autoregressive one", behind, at_most(1), basis="table 3")
    yield Measure(label, older / lm1b, at_least(2), basis="table 3; “at least 2×”")
    for other in ("D3PM", "PLAID"):
        least, basis = float((1 - np.array(rows[name]) / rows[other]).min()), "table 1, 5 sets; “25–75 %”"
        yield Measure(f"zero-shot: smallest reduction against {other}", least, at_least(0.25), basis=basis)
    for size, table in ZERO_SHOT.items():  # of D3PM there is a small one only
        wins = sum(a < b for a, b in zip(table.get(name, rows[name]), table["GPT-2"], strict=True))
        yield Measure(f"sets of 5 on which {size} SEDD beats GPT-2", wins, at_least(3), basis="table 1")


def _exact(label, values, most, basis, control, wrong):
    """A largest error, which has to be rounding, beside that of something wrong, which must not be."""
    return Measure(label, float(np.max(values)), at_most(most), basis=basis).against(control, float(wrong))


def _toys(values):
    return f"{values.shape[0]} random distributions over 81 texts, {values.shape[1]} chains"


def _same_gradient(results):
    run, words = results["identities"].first, "ratios of twice the noise"
    wrong, errors = run["gradient_control"].min(), np.moveaxis(run["gradient_errors"], -1, 0)
    each = {f"largest difference, {form} form": errors[k] for k, form in enumerate(("implicit", "denoising"))}
    return [_exact(label, one, 1e-10, _toys(one), words, wrong) for label, one in each.items()]


def _bound_is_tight(results):
    run = results["identities"].first
    errors, excess, basis = run["identity_error"], float(run["excess"].min()), _toys(run["excess"])
    wrong = np.abs(run["bound_wrong"] - run["bound_true"]).max(-1).min()
    exact = _exact("largest error of the identity, any text", errors, 1e-9, basis, "wrong scores", wrong)
    return [exact, Measure("smallest mean excess of a wrong score, nats", excess, at_least(0), basis=basis)]


def _tweedie_is_best(results):
    run = results["identities"].first
    gaps = run["tweedie"] - run["euler"]  # (problems, graphs, 3 log-linear and 3 geometric steps)
    # A step of Euler's that is too long has an infinite KL.
    finite = np.where(np.isfinite(gaps), gaps, np.nan)
    twins, others = abs(gaps[:, 0, :3]), abs(finite[:, 0, 3:])
    rows = (
        ("largest error of a token's distribution", run["marginal_error"], "Euler's step", run["marginal_control"].min()),
        ("largest KL above Euler's, nats", gaps, "Euler's above Tweedie's", -np.nanmin(finite)),
        ("masks, log-linear: largest difference", twins, "masks, geometric", np.nanmax(others)),
    )  # fmt: skip
    return [_exact(label, values, 1e-12, _toys(gaps), *control) for label, values, *control in rows]


def _one_loss_and_text(results):
    run, label = results["identities"].first, "largest relative difference of the losses, float32"
    losses = _exact(label, run["loss_gap"], 1e-6, "256 draws", "no softmax", run["loss_gap_control"])
    differences = int(run["cache_differences"])
    return [losses, Measure("tokens that differ with the cache", differences, at_most(0), basis="64 texts")]


# --- likelihood ---------------------------------------------------------------------------------------------


def bits(runs, text="valid", kind="bits"):
    """Mean bits per token of each seed: as published, or of the ``kind`` "strict" with all parts of the bound."""
    return runs[f"{kind}_{text}"].mean(axis=1)


def common(*each, text="valid"):
    """Strict bits per token of the seeds that all runs share."""
    return [bits(runs, text, "strict") for runs in of_shared_seeds(*each)]


def _gap(ours, theirs, accepts, label, control):
    """A judge of the paired difference of bits. Its control is a difference of our bits, theirs and SEDD uniform's."""

    def judge(results):
        pair = common(results[ours], results[theirs])
        names = [results[name].first.get("method", name) for name in (ours, theirs)]
        difference = "bits per character, {} minus {}".format(*names)
        measure = Measure.paired(difference, *pair, accepts).as_primary()
        means = (each.mean() for each in (*pair, bits(results["sedd_uniform"], kind="strict")))
        return [measure.against(label, control(*means))]

    return judge


def _concrete_score_fails(results):
    ours, theirs = common(results["sedd_absorb"], results["concrete_score"])
    if (ignorance := IGNORANT / ours.mean()) < 1.5:
        here = f"a network that guesses uniformly has {ignorance:.2f} times as many"
        raise too_small("the criterion asks for 1.5 times the bits of score entropy", here)
    measure = Measure.ratio("bits over those of score entropy", theirs, ours, at_least(1.5))
    return [measure.against("score entropy itself", 1.0)]


def _transfers(results):
    methods = [results[name] for name in ("sedd_absorb", "autoregressive", "sedd_uniform")]
    texts = [text for text in methods[0].first["texts"] if text != "valid"]
    ours, causal, uniform = np.array([common(*methods, text=text) for text in texts]).swapaxes(0, 1)
    gaps, others = (np.median(each - causal, axis=0) for each in (ours, uniform))
    label = f"bits per character, absorb minus autoregressive, median of {len(texts)} texts"
    measure = Measure.paired(label, gaps, np.zeros_like(gaps), at_most(0))
    return [measure.against("SEDD uniform", others.mean())]


# --- samples ------------------------------------------------------------------------------------------------


PLAIN = {"method": "tweedie", "temperature": 1.0, "top_p": 1.0, "race": ""}


def texts(results, name, kind="network", **options):
    """Of texts written with these options: numbers of steps (k,), and what they cost, or a judge finds (seeds, k)."""
    runs, options = results[f"samples_{name}"], PLAIN | options
    rows = np.all([runs.first[key] == value for key, value in options.items()], axis=0)
    found = runs[kind] if kind in runs.first else results["judged"][f"{name}_{kind}"]
    return runs.first["steps"][rows], (found.mean(-1) if found.ndim > 2 else found)[:, rows]


def _more_steps_are_better(results):
    from scipy.stats import spearmanr

    (steps, absorb), (_, uniform) = (texts(results, name) for name in ("absorb", "uniform"))
    # With masks, steps beyond the length change nothing any more.
    some = steps <= results["samples_absorb"].first["tokens"].shape[-1]
    steps, absorb, uniform = steps[some], absorb[:, some], uniform[:, some]
    ranks = [spearmanr(steps, each).statistic for each in absorb]
    fits = [loglog_fit(steps, 2**each)[2] for each in absorb]
    gains = (each[:, -3] - each[:, -1] for each in (uniform, absorb))
    return [
        Measure.of_seeds("absorb: rank correlation of steps and bits", ranks, at_most(-0.9)).as_primary(),
        Measure.of_seeds("absorb: R² of a line, log perplexity on log steps", fits, at_least(0.9)),
        Measure.paired("bits gained in the last two doublings up to the length, uniform minus absorb", *gains, at_most(0)),
    ]  # fmt: skip


def _better_than_autoregressive(results):
    behind = float(np.subtract(*common(results["sedd_absorb"], results["autoregressive"])).mean())
    if abs(behind) > MATCHED:
        criterion = f"texts are compared of networks within {MATCHED} bits per character of each other"
        raise too_small(criterion, f"SEDD is {behind:.2f} bits behind")
    ours, theirs = texts(results, "absorb")[1][:, -1], texts(results, "autoregressive")[1][:, 0]
    label = "judge's bits per character, SEDD with most steps minus autoregressive"
    return [Measure.paired(label, ours, theirs, at_most(0))]


def _tweedie_beats_euler(results):
    """Both chains with geometric noise at every number of steps; with log-linear noise the two are one (C4)."""
    run, measures = results["oracle_samplers"].first, []
    basis = {"basis": "exact scores, 95 % interval over texts", "units": run.settings["oracle_sequences"]}
    for chain in ("absorbing", "uniform"):
        names = [f"{chain}, geometric, {method}" for method in ("tweedie", "euler")]
        ours, theirs = (row(run, "bits", samplers=name) for name in names)
        halves = 1.96 * np.hypot(*(row(run, "bits_error", samplers=name) for name in names))
        for n, gap, half in zip(run["steps"], ours - theirs, halves, strict=True):
            label = f"{chain}, {n} steps: bits per character, Tweedie minus Euler"
            interval = {"low": float(gap - half), "high": float(gap + half)}
            measures.append(Measure(label, float(gap), at_most(0), **interval, **basis))
        if chain == "absorbing":  # the paper's regime is many steps, and its better chain masks
            late = ours[-2] - theirs[-1]
            measures[-1] = measures[-1].as_primary().against("Tweedie with half the steps", late)
    return measures


def _fills_gaps(results):
    runs, counts = results["infilling"], results["counted_infilling"].first["bits"].mean()
    both, before, causal = (runs[f"bits_{name}"].mean(-1) for name in ("both", "before", "autoregressive"))
    ours, left, theirs = (runs[f"{name}_network"].mean(-1) for name in ("both", "before", "nucleus"))
    sides = "SEDD from both sides minus autoregressive"
    rows = (
        (f"bits per character of the middle, {sides} from the left", both, causal, before),
        ("the same minus 5-grams from both sides", both, np.full_like(both, counts), before),
        (f"judge's bits per character, {sides} nucleus from the left", ours, theirs, left),
    )
    first, *others = (
        Measure.paired(label, mine, other, at_most(0)).against("SEDD from the left", (control - other).mean())
        for label, mine, other, control in rows
    )
    return [first.as_primary(), *others]


def _cache_saves(results):
    run, measures = results["samples_time_free"].first, []
    grids = run["steps"] > 0  # the last texts have none
    for steps, count in zip(run["steps"][grids], run["evaluations"][grids], strict=True):
        expected = expected_evaluations(int(steps), run["tokens"].shape[-1])
        label = f"{steps} steps: evaluations per text over {expected:.1f}"
        measure = Measure.over_samples(label, count / expected, between(0.98, 1.02))
        measures.append(measure.against("without a cache", (steps + 1) / expected))
    return measures


CLAIMS = (
    Claim("C1", "SEDD nearly matches autoregressive models on LM1B, beats earlier language diffusion by 25 to 75 %, and "
          "beats GPT-2 on most zero-shot sets.", "abstract, tables 1 and 3", "“25–75 %”, “at least 2×”", "arithmetic",
          "arithmetic on the paper's own tables", headlines, EVERYWHERE),
    Claim("C2", "Explicit, implicit and denoising score entropy have the same gradient.", "Prop. 3.3, Thm 3.4",
          "theorems", "exact", "largest difference below 10⁻¹⁰, on all texts of a toy problem", _same_gradient, EVERYWHERE),
    Claim("C3", "Diffusion-weighted score entropy bounds the negative log-likelihood (an ELBO), and is tight at the true "
          "score.", "Thm 3.6", "a theorem", "exact", "identity to 10⁻⁹ for every text; wrong scores never lower its mean",
          _bound_is_tight, EVERYWHERE),
    Claim("C4", "The Tweedie step is the best of all steps that draw tokens independently.", "Thm 4.2", "a theorem",
          "exact", "each token's distribution correct to 10⁻¹², KL never above Euler's", _tweedie_is_best, EVERYWHERE),
    Claim("C5", "Masking noise gives better likelihoods than uniform noise.", "Table 2, text8", "1.39 against 1.47",
          "statistical", "paired difference of bits per character below 0",
          _gap("sedd_absorb", "sedd_uniform", at_most(0), "uniform guessing", lambda a, b, uniform: IGNORANT - b),
          FULL, FEW_STEPS),
    Claim("C6", "Per character, an autoregressive network still has the better likelihood.", "Table 2, text8",
          "1.39 against 1.23", "statistical", "paired difference of bits per character above 0",
          _gap("sedd_absorb", "autoregressive", at_least(0), "SEDD uniform in place of the autoregressive network",
               lambda a, b, uniform: a - uniform), FULL, FEW_STEPS),
    Claim("C7", "SEDD Absorb has a better likelihood than D3PM Absorb.", "Table 2, text8", "1.39 against 1.45",
          "statistical", "paired difference of bits per character below 0",
          _gap("sedd_absorb", "d3pm", at_most(0), "SEDD uniform", lambda a, b, uniform: uniform - b), FULL, FEW_STEPS),
    Claim("C8", "Score entropy trains; concrete score matching does not.", "App. D.1", "loss 3 to 4 times higher",
          "statistical", "bits per character at least 1.5 times those of score entropy, at equal steps",
          _concrete_score_fails, FULL, FEW_STEPS),
    Claim("C9", "More sampling steps give better text: a straight line on log-log axes for masks, while uniform noise "
          "levels off.", "Figs. 1 and 2", "shown in figures", "statistical", "up to as many steps as tokens: rank "
          "correlation of steps and bits at most −0.9, R² of the line at least 0.9, and a smaller gain for uniform noise",
          _more_steps_are_better, FULL, FEW_STEPS),
    Claim("C10", "With many steps SEDD's text is better than autoregressive text without annealing.", "abstract, Fig. 1",
          "6 to 8 times lower generative perplexity", "statistical", "fewer bits under the judge, from networks within 0.1 "
          "bits per character of each other", _better_than_autoregressive, FULL, FEW_STEPS),
    Claim("C11", "Tweedie sampling gives better text than Euler sampling.", "Fig. 2", "1 to 4 points of perplexity",
          "statistical", "fewer bits per character at every number of steps; the primary measure is masks at the largest "
          "one", _tweedie_beats_euler, FULL, "smoke samples too few texts"),
    Claim("C12", "SEDD fills in text at any position, given both sides, as well as autoregressive models continue text.",
          "Table 4, Table 5", "MAUVE 0.942 for infilling, 0.955 for GPT-2 with a nucleus", "statistical", "fewer bits for "
          "the true middle than an autoregressive network and 5-grams need, and fewer bits under the judge for the samples "
          "than for nucleus samples", _fills_gaps, FULL, FEW_STEPS),
    Claim("C13", "On zero-shot sets SEDD Absorb beats an autoregressive model of its size.", "Table 1", "ahead of GPT-2 "
          "on 3 of 5 sets", "statistical", "paired difference of bits per character below 0 on most sets, that is in the "
          "median", _transfers, FULL, FEW_STEPS),
    Claim("C14", "Beyond the paper: with normalized scores SEDD's loss is that of masked language models, and caching a "
          "time-free network until a token changes leaves its samples the same.", "later work: MDLM, RADD", "not in the "
          "paper", "exact", "losses equal to 10⁻⁶ in float32, texts identical with and without the cache",
          _one_loss_and_text, EVERYWHERE),
    Claim("C15", "Beyond the paper: a cached time-free network needs n (1 − (1 − 1/n)ᴸ) evaluations per sample.",
          "later work: RADD", "not in the paper", "statistical", "mean evaluations within 2 % of that number",
          _cache_saves, FULL, FEW_STEPS),
)  # fmt: skip
