"""The generated parts of the book: landing cards, scoreboard, data table, API pages."""

import json
import re
from dataclasses import dataclass, field
from html import escape
from importlib import import_module
from pathlib import Path
from types import ModuleType

from loupe import __version__
from loupe.errors import LoupeError
from loupe.experiment.chapter import Chapter
from loupe.experiment.claims import judge
from loupe.experiment.folders import PRESET_NAMES, at_release, project_root, read_history, show_path
from loupe.experiment.render import MARKS, html_row, html_table, source, table, verdict_class, verdict_html
from loupe.experiment.results import Runs, Stored, distinct, leading_verdicts
from loupe.experiment.store import Store
from loupe.papers import PAPERS, THEMES, Paper, load_room, open_chapter
from loupe.publishing.notebooks import notebook_file, parameters_cell, read_notebook
from loupe.publishing.status import status

# The public modules in order of interest; no names means all public ones.
API = {
    "Opening a chapter": {
        "loupe.papers": "open_chapter, Paper, PAPERS, find_paper, load_room",
        "loupe.experiment.chapter": "Chapter",
        "loupe.experiment.results": "Runs, columns, row",
    },
    "Geometry": {
        "loupe.geometry": "",
        "loupe.geometry.networks": "ManifoldLinear, GraphEncoder, tangent_aggregation, "
        "frechet_aggregation, link_logits, link_loss",
        "loupe.geometry.gromov": "hop_distances, gromov_delta, GromovDelta",
    },
    "Topology": {"loupe.topology": ""},
    "Diffusion": {
        "loupe.diffusion.continuous": "",
        "loupe.diffusion.bridges": "",
        "loupe.diffusion.discrete": "",
        "loupe.diffusion.reflected": "",
    },
    "Dynamics": {"loupe.dynamics": ""},
    "Metrics": {"loupe.metrics": ""},
    "Data": {
        "loupe.data": "",
        "loupe.data.graph_tasks": "LinkSplit, link_split, training_negatives, sample_non_edges, NodeSplit, node_split, "
        "fixed_node_split, message_edges, node_inputs, disease_tree",
        "loupe.data.images": "unit_interval, standardized",
        "loupe.data.token_blocks": "Crops, BlockBatches, write_blocks, open_blocks, PackedText",
    },
    "Training": {
        "loupe.training": "",
        "loupe.networks": "",
        "loupe.networks.transformer": "Transformer",
        "loupe.networks.unet": "UNet, DiffusersUNet, TranslationUNet, make_unet",
        "loupe.networks.egnn": "Graph, EGNNLayer",
        "loupe.networks.mlp": "NoiseMLP, TranslationMLP",
        "loupe.networks.feature_classifier": "FeatureClassifier, WideResNet",
    },
    "Presets and experiments": {"loupe.experiment.units": "Preset, experiment, Unit, units_of"},
    "Claims": {
        "loupe.experiment.claims": "Claim, Measure, Band, at_most, at_least, between, Judgement, judge, combine"
    },
    "Results": {
        "loupe.experiment.store": "Store, Result",
        "loupe.experiment.compute": "compute",
        "loupe.experiment.provenance": "",
    },
    "Plotting": {"loupe.plotting": ""},
}


def generate(folder: Path) -> None:
    """Write the generated pages and their thumbnails into ``folder``."""
    folder.mkdir(parents=True)
    for paper in PAPERS.values():
        if not paper.planned:
            _thumbnail(paper, folder)
    pages = {
        "cards": cards(), "scoreboard": scoreboard(), "status": status(), "data": data_table(), "api": api(),
    } | {f"training_{name}": text for name, text in training().items()}  # fmt: skip
    for name, text in pages.items():
        (folder / f"{name}.md").write_text(text, encoding="utf-8")


def shown_preset(slug: str) -> str:
    """The preset of a chapter's page: the literal in its published notebook."""
    path = notebook_file(slug)
    found = re.search(r'^preset = "(\w+)"', parameters_cell(read_notebook(path)).source, re.MULTILINE)
    if found is None or found.group(1) not in PRESET_NAMES:
        raise LoupeError(
            f'{show_path(path)}: its parameters cell has no line `preset = "cpu"`: restore it from git.'
        )
    return found.group(1)


@dataclass(frozen=True)
class Opened:
    """The stored runs of a chapter for a judge; records which of them the judge opens."""

    stored: Stored
    runs: dict[str, Runs] = field(default_factory=dict)

    def __getitem__(self, experiment: str) -> Runs:
        self.runs[experiment] = self.stored[experiment]
        return self.runs[experiment]

    def origin(self) -> str:
        """The date of the newest opened result, and the machines of all of them; empty if none was opened."""
        made_by = [result.provenance for runs in self.runs.values() for result in runs]
        dates, machines = ([one[key] for one in made_by] for key in ("finished", "hardware"))
        return f"{max(dates)[:10]} · {'; '.join(distinct(machines))}" if made_by else ""


def cards() -> str:
    """One card for each paper, grouped by theme, written chapters first; planned ones are pale and labeled."""
    written = {paper.theme for paper in PAPERS.values() if not paper.planned}
    parts = []
    for theme in sorted(THEMES, key=lambda theme: theme not in written):
        tiles = "\n".join(_tile(paper) for paper in PAPERS.values() if paper.theme == theme)
        parts.append(f'## {theme.capitalize()}\n\n<div class="loupe-grid">\n{tiles}\n</div>\n')
    return "\n".join(parts)


def _tile(paper: Paper) -> str:
    words = (
        f'<span class="short">{escape(paper.short)}</span><span class="question">{escape(paper.question)}</span>'
        f'<span class="venue">{paper.venue}</span>'
    )
    if paper.planned:
        return f'<div class="loupe-tile planned">{words}<span class="marks">planned</span></div>'
    picture = f'<img src="../_static/thumbnails/{paper.slug}.svg" alt="" width="640" height="480">'
    verdicts = [
        one.verdict for one in leading_verdicts(Stored(load_room(paper.slug), "cpu", Store.default()))
    ]
    return f'<a class="loupe-tile" href="../notebooks/{paper.slug}.html">{picture}{words}{_bar(verdicts)}</a>'


def _bar(verdicts: list[str]) -> str:
    """A bar of the chapter's verdicts, with a segment for each kind."""
    counts = {word: verdicts.count(word) for word in MARKS if word in verdicts}
    spoken = ", ".join(f"{count} {word}" for word, count in counts.items())
    parts = "".join(
        f'<span class="{verdict_class(word)}" style="flex:{count}">{MARKS[word]} {count}</span>'
        for word, count in counts.items()
    )
    return f'<span class="bar" role="img" aria-label="{spoken}" title="{spoken}">{parts}</span>'


def scoreboard() -> str:
    """Every judged claim of the book with its verdict at each preset, its origin, and its previous verdict."""
    parts, store = [], Store.default()
    for paper in PAPERS.values():
        presets = [] if paper.planned else store.judged_presets(paper.slug)
        if not presets:
            continue
        parts.append(f"## [{paper.question}](../notebooks/{paper.slug}.ipynb)\n")
        parts += [f"{preset}: {_standing(open_chapter(paper.slug, preset=preset))}\n" for preset in presets]
        parts.append(_scores(load_room(paper.slug), presets, store) + "\n")
    planned = [paper.title for paper in PAPERS.values() if paper.planned]
    if planned:
        parts.append("## Planned\n\n" + "\n".join(f"- {title}" for title in planned) + "\n")
    return "\n".join(parts)


def _standing(chapter: Chapter) -> str:
    state = chapter.state
    kind = "warn" if state.needs_attention else "fine"
    return f'<span class="loupe-state {kind}">{escape(state.sentence())}</span>'


def _scores(room: ModuleType, presets: list[str], store: Store) -> str:
    """A chapter's claims at these presets, judged again on stored results."""
    slug, history, rows = room.PAPER.slug, read_history(store), []
    for claim in room.CLAIMS:
        cells = [("claim", f"<code>{claim.id}</code> {escape(claim.statement)}"), ("kind", claim.kind)]
        for preset in presets:
            opened = Opened(Stored(room, preset, store))
            verdict, release = (
                judge(claim, preset, opened).verdict,
                at_release(history, slug, preset, claim.id),
            )
            href = f"../notebooks/{slug}.html#{claim.anchor}"
            cells.append((preset, _score(verdict, opened.origin(), release, href)))
        rows.append(html_row(cells))
    return html_table("loupe-ledger scores", ("claim", "kind", *presets), rows)


def _score(verdict: str, origin: str, release: str | None, href: str) -> str:
    """A verdict with the origin of its results, and the verdict at the last release if it changed."""
    said = [origin] * bool(origin)
    if release not in (None, verdict):
        said.append(f"changed since {__version__}: was {release}")
    return verdict_html(verdict, href) + "".join(f'<span class="kind">{escape(line)}</span>' for line in said)


def data_table() -> str:
    """The data sets of the catalog: what each is, its size, license and source."""
    from loupe.data import CATALOG

    rows = [
        html_row(
            [
                ("name", f"<code>{one.name}</code>"),
                ("what", escape(one.title)),
                ("license", escape(one.license)),
            ]
        )
        for one in CATALOG.values()
    ]
    return html_table("loupe-table", ("name", "what", "license"), rows) + "\n"


def training() -> dict[str, str]:
    """The generated parts of the page on training: the code, and its cost as measured by ``make bench``."""
    from loupe.training import Batches, fit
    from loupe.training.checkpoints import Checkpoint
    from loupe.training.devices import seed_of, seed_streams

    measured = json.loads(
        (project_root() / "results" / "bench" / "training.json").read_text(encoding="utf-8")
    )
    return {
        "fit": source([fit]).markdown,
        "batches": source([Batches.__call__, Batches.row]).markdown,
        "seeds": source([seed_streams, seed_of]).markdown,
        "checkpoint": source([Checkpoint.save]).markdown,
        "costs": _loop_costs(measured),
    }


def _loop_costs(measured: dict) -> str:
    """The overhead of ``fit`` over a hand-written loop, and of its options, in milliseconds."""
    costs: dict[str, dict[str, float]] = {}
    for row in measured["rows"]:
        if "milliseconds" in row:
            costs.setdefault(row["case"], {})[row["method"]] = row["milliseconds"]
    names = list(next(iter(costs.values())))
    rows = [(case, *(f"{found[name]:.2f}" for name in names)) for case, found in costs.items()]
    shown = table(("milliseconds", *names), rows, numeric=True)
    shares = " and ".join(
        f"{found['fit'] / found['bare loop'] - 1:.0%} more for {case}" for case, found in costs.items()
    )
    return (
        f"{shown.html}\n\nThe bare loop is a few lines by hand, without checkpoints, signals or seeds, and ends at the "
        f"same bits. `fit` takes {shares}. The recorder is paid at every step, a checkpoint every "
        "`save_every` steps.\n"
    )


def api() -> str:
    """Autodoc directives for the public rooms."""
    parts, shown = [], []
    for title, modules in API.items():
        parts.append(f"## {title}\n")
        for module, names in modules.items():
            found = import_module(module)
            members = names.split(", ") if names else found.__all__ if hasattr(found, "__all__") else []
            again = [name for name in members if any(getattr(found, name) is one for one in shown)]
            shown += [getattr(found, name) for name in members]
            parts.append(
                f"```{{eval-rst}}\n.. automodule:: {module}\n   :members: {names}\n"
                f"   :exclude-members: {', '.join(again)}\n   :show-inheritance:\n```\n"
            )
    return "\n".join(parts)


def _thumbnail(paper: Paper, folder: Path) -> None:
    figures = import_module(f"loupe.papers.{paper.slug}.figures")
    target = folder.parent / "_static" / "thumbnails" / f"{paper.slug}.svg"
    target.parent.mkdir(parents=True, exist_ok=True)
    figures.thumbnail(open_chapter(paper.slug, preset=shown_preset(paper.slug)), target)
