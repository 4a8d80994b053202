"""What trained networks write: texts on their way, judged texts, filled gaps, and what they cost."""

import numpy as np

from loupe.data.text import ALPHABET
from loupe.diffusion.discrete.samplers import LAST_TIME
from loupe.experiment.render import score_table
from loupe.experiment.results import row
from loupe.papers.drawing import Picture, drawn_from, passages, seed_bars
from loupe.papers.sedd.claims import PLAIN, texts
from loupe.papers.sedd.figures import style
from loupe.plotting import GROUND, SERIES, TRUTH, figure, log_axis, reverse_path

WRITERS = ("samples_absorb", "samples_uniform", "samples_autoregressive")
WRITING = {"what": "sampling from trained networks", "partial": True}


@drawn_from("samples_absorb", "samples_uniform", **WRITING)
def paths(found):
    """The hero: texts that come out of masks, and out of random characters."""
    masks, random = (found[name].first["path"] for name in ("samples_absorb", "samples_uniform"))
    times, steps = np.linspace(1, LAST_TIME, found.settings.race_steps + 1), found.settings.training.steps
    return reverse_path(
        {"absorbing (masks)": masks, "uniform": random}, times,
        title=f"SEDD writes, step by step (preset {found.preset}, {steps:,} training steps)",
        alt="A text at three moments of its generation and at its end, each character colored by when it was fixed: "
        "characters appear all over the text, in no order.",
    )  # fmt: skip


def words(tokens):
    """Tokens as text, with an underscore for a mask."""
    return "".join((ALPHABET + "_")[min(token, 27)] for token in np.asarray(tokens).tolist())


def row_of(found, name, **options):
    """A writer's texts with these options: texts ``(samples, L)``, judge's bits ``(samples,)``."""
    run = dict(found[f"samples_{name}"].first) | {"bits": found["judged"].first[f"{name}_network"]}
    return [row(run, value, **PLAIN | options) for value in ("tokens", "bits")]


@drawn_from(*WRITERS, "judged", "infilling", **WRITING)
def samples(found, each=2):
    """The first texts of each sampler as they came, with the judge's bits."""
    config, real = found.settings, found["judged"].first["held_out_network"][0]
    few, many, top_p = config.sample_steps[0], config.sample_steps[-1], config.nuclei[1]
    rows = {
        "held-out novels": (found["infilling"].first["truth"], real),
        f"SEDD Absorb, {many} steps": row_of(found, "absorb", steps=many),
        f"SEDD Absorb, {few} steps": row_of(found, "absorb", steps=few),
        f"SEDD Absorb, {config.race_steps} steps, nucleus {top_p}": row_of(found, "absorb", top_p=top_p),
        f"SEDD Uniform, {many} steps": row_of(found, "uniform", steps=many),
        "autoregressive": row_of(found, "autoregressive", cached=True),
        f"autoregressive, nucleus {top_p}": row_of(found, "autoregressive", top_p=top_p),
    }
    groups = [
        (label, [(f"{costs[k]:.2f}", [(words(written[k]), "plain")]) for k in range(each)])
        for label, (written, costs) in rows.items()
    ]
    note = f"The first {each} texts of each, not selected, and their bits per character under the judge."
    return passages(groups, f"{note} Preset {found.preset}, seed {found.first_seed}.")


# --- quality ------------------------------------------------------------------------------------------------


@drawn_from(*WRITERS, "judged", **WRITING)
def steps_figure(found):
    """C9: the judge's bits against the number of steps, beside autoregressive and held-out text."""
    sheet, axes = figure(height=3.9)
    dashed = {"linestyle": "--", "markerfacecolor": GROUND}
    for label, method, look in (
        ("SEDD Absorb", "tweedie", {}), ("SEDD Uniform, Tweedie", "tweedie", {}), ("SEDD Uniform, Euler", "euler", dashed),
    ):  # fmt: skip
        name = label.partition(",")[0]
        steps, values = texts(found, name.removeprefix("SEDD ").lower(), method=method)
        seed_bars(axes, steps, values, label=label, **style(name) | look)
    axes.axhline(_seeds(found, "autoregressive").mean(), color=SERIES[1].color, label="autoregressive")
    axes.axhline(found["judged"]["held_out_network"].mean(), **TRUTH, label="held-out text")
    log_axis(axes)
    axes.set_xticks(steps, [str(n) for n in steps])
    axes.set(xlabel="sampling steps", ylabel="judge’s bits per character")
    axes.legend(ncols=2, loc="upper center", bbox_to_anchor=(0.5, -0.18))
    return Picture(
        sheet,
        "Bits per character under a judge against the number of sampling steps: curves for masks and for uniform tokens, "
        "level lines for autoregressive and for held-out text.",
        f"What sampled text costs the judge: {found.settings.samples} texts of {found.settings.length} characters "
        "per point and seed; bars, from three seeds on, are 95 % t intervals.",
    )


def _seeds(found, name, kind="network", **options):
    """One value a seed (seeds,): the first of those written with these options, mean over texts."""
    return texts(found, name, kind, **options)[1][:, 0]


@drawn_from(*WRITERS, "judged", **WRITING)
def frontier(found):
    """C10: the judge's bits against entropy, along numbers of steps, temperatures and nuclei."""
    (sheet, axes), config, kinds = figure(height=4.2), found.settings, ("entropy", "network")
    hot, nuclei = [{"temperature": t} for t in config.temperatures], [{"top_p": p} for p in config.nuclei]
    plain, steps = {"steps": config.race_steps}, [{"steps": n} for n in config.sample_steps]
    for label, name, choices, look in (
        ("SEDD Absorb, temperature", "absorb", [plain, *hot], "-o"),
        ("SEDD Absorb, nucleus", "absorb", [plain, *nuclei], "--s"),
        ("autoregressive, temperature", "autoregressive", [{}, *hot], "-o"),
        ("autoregressive, nucleus", "autoregressive", [{}, *nuclei], "--s"),
        ("SEDD Uniform, steps", "uniform", steps, ":^"),
    ):
        points = [[_seeds(found, name, kind, **one).mean() for one in choices] for kind in kinds]
        axes.plot(*points, look, color=style(label.partition(",")[0])["color"], label=label)
    real = [found["judged"][f"held_out_{kind}"].mean() for kind in kinds]
    axes.plot(*real, "*", color=TRUTH["color"], markersize=10, label="held-out text")
    axes.set(xlabel="entropy of characters within a text, bits", ylabel="judge’s bits per character")
    axes.legend(ncols=2, loc="upper center", bbox_to_anchor=(0.5, -0.16))
    return Picture(
        sheet,
        "Judge’s bits against the entropy of the text: curves for SEDD Absorb, SEDD Uniform and the autoregressive "
        "network, and a star for held-out text.",
        f"Quality against diversity. SEDD Absorb with {config.race_steps} steps and the autoregressive network, each at "
        f"temperature 1 (right end), then at {', '.join(map(str, config.temperatures))} or with a nucleus of "
        f"{', '.join(map(str, config.nuclei))}; SEDD Uniform with {config.sample_steps[0]} to {config.sample_steps[-1]} "
        "steps. Low bits at low entropy can be repetition, not quality: compare at equal entropy, and with the star.",
    )


@drawn_from(*WRITERS, "samples_time_free", "judged", **WRITING)
def costs(found):
    """Network evaluations (NFE) and CPU time per text, beside its quality."""
    some = [n for n in found.settings.sample_steps if n in (16, 64, 256)] or found.settings.sample_steps
    cached = {"AR, cached": True, "AR, no cache": False}
    rows = {label: ("autoregressive", {"cached": one}) for label, one in cached.items()}
    for label, name in (("SEDD", "absorb"), ("time-free", "time_free")):
        rows |= {f"{label}, {n} steps": (name, {"steps": n}) for n in some}
    rows["first hitting"] = ("time_free", {"steps": 0})
    kinds = {"evaluations": 1, "seconds": 1000, "network": 1}
    shown = [
        (label, *(scale * _seeds(found, name, kind, **options) for kind, scale in kinds.items()))
        for label, (name, options) in rows.items()
    ]
    return score_table((f"sampler ({found.label})", "NFE", "CPU ms", "judge’s bits"), shown, digits=(1, 1, 2))


@drawn_from("samples_absorb", "judged", **WRITING)
def races(found):
    """Texts drawn by exponential sampling in fewer digits: better to the judge, and less diverse."""
    kinds, options = ("network", "entropy"), {one: {"race": one} for one in ("float16", "float32", "float64")}
    options["exact draws"] = {"steps": found.settings.race_steps}
    rows = [
        (name, *(_seeds(found, "absorb", kind, **one) for kind in kinds)) for name, one in options.items()
    ]
    rows.append(("held-out text", *(found["judged"][f"held_out_{kind}"].mean((1, 2)) for kind in kinds)))
    head = (f"precision ({found.label})", "judge’s bits per character", "entropy, bits")
    return score_table(head, rows, digits=3)


# --- filling in ---------------------------------------------------------------------------------------------


@drawn_from("infilling", "counted_infilling", **WRITING)
def infills(found, each=3, margin=24):
    """The middle of held-out texts: as it was, and as three models fill it."""
    run, counts = found["infilling"].first, found["counted_infilling"].first
    start, stop, count = run["place"][0], run["place"][-1] + 1, min(each, len(run["truth"]))
    kinds = {
        "the novel": run["truth"], "SEDD, both sides": run["both_tokens"], "5-grams, both sides": counts["tokens"],
        "autoregressive, left side": run["autoregressive_tokens"],
    }  # fmt: skip

    def parts(tokens, look):
        text, first = words(tokens), max(0, start - margin)
        around = text[first:start], text[stop : stop + margin]
        return [("", [(around[0], "quiet"), (text[start:stop], look), (around[1], "quiet")])]

    groups = [
        (f"text {k + 1}, {label}", parts(tokens[k], "gap" if label == "the novel" else "filled"))
        for k in range(count)
        for label, tokens in kinds.items()
    ]
    note = f"The first {count} held-out texts, with {stop - start} characters to fill in (underlined)."
    return passages(groups, f"{note} Preset {found.preset}, seed {found['infilling'].seeds[0]}.")


@drawn_from("infilling", "counted_infilling", **WRITING)
def infill_table(found):
    """Bits of the true middle, and how what was filled in fits the page."""
    runs, counts = found["infilling"], found["counted_infilling"].first
    rows = {
        "SEDD, both sides": "both", "SEDD, left side": "before", "AR, left side": "autoregressive",
        f"AR, nucleus {found.settings.infill_top_p}": "nucleus", "the true middle": "truth",
    }  # fmt: skip

    def cells(name):
        kinds = {f"bits_{name}": 1, f"{name}_network": 1, f"{name}_right": 100}
        return [scale * runs[kind].mean(-1) if kind in runs.first else None for kind, scale in kinds.items()]

    shown = [(label, *cells(name)) for label, name in rows.items()]
    shown.insert(-1, ("5-grams, both sides", [counts["bits"].mean()], None, [100 * counts["right"].mean()]))
    head = (f"model ({found.label})", "bits of the true middle", "judge’s bits", "right, %")
    return score_table(head, shown, digits=(2, 2, 1), best=("min", "", ""))
