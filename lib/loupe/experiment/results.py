"""A chapter's stored results by experiment, and its verdicts; read on demand, never computed."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np

from loupe.errors import LoupeError
from loupe.experiment import claims as judging
from loupe.experiment import folders, provenance, render
from loupe.experiment.folders import MissingResultError, StoreError
from loupe.experiment.store import Result, Store, compute_command
from loupe.experiment.units import Preset, Unit, units_of

if TYPE_CHECKING:
    from loupe.experiment.chapter import Chapter


@dataclass(frozen=True)
class Runs:
    """The results of one experiment over its seeds.

    ``runs["name"]`` stacks a value of every seed along a new first axis; iteration gives single results.
    """

    results: tuple[Result, ...]

    @property
    def seeds(self) -> tuple[int, ...]:
        """The seeds in the order of the stacked axis."""
        return tuple(result.seed for result in self.results)

    @property
    def first(self) -> Result:
        """The result of the first seed."""
        return self.results[0]

    def __getitem__(self, name: str) -> np.ndarray:
        return np.stack([result[name] for result in self.results])

    def __iter__(self) -> Iterator[Result]:
        return iter(self.results)

    def __len__(self) -> int:
        return len(self.results)


@dataclass(frozen=True)
class Stored:
    """The stored runs of a chapter at one configuration, by experiment; read on demand, never computed."""

    room: ModuleType
    preset: str
    store: Store
    overrides: Mapping[str, Any] = field(default_factory=dict)
    seed: int | None = None

    def units(self, experiment: str | None = None) -> list[Unit]:
        """The units of one experiment, or of all of them."""
        return units_of(self.room, self.preset, self.overrides, experiment=experiment, seed=self.seed)

    def __getitem__(self, experiment: str) -> Runs:
        units = self.units(experiment)
        if not units:
            raise LoupeError(f"{experiment} is not part of the preset {self.preset}.")
        found = [self.store.find(unit) for unit in units]
        missing = [str(unit.seed) for unit, one in zip(units, found, strict=True) if one is None]
        if missing:
            raise MissingResultError(
                f"{units[0].slug}/{experiment} has no stored result of today's configuration for "
                f"seed{'s' * (len(missing) > 1)} {', '.join(missing)} at preset {self.preset}: "
                f"type `{compute_command(units[0])}`."
            )
        return Runs(tuple(found))

    def those_there(self, experiment: str) -> Runs | None:
        """The runs at the seeds computed so far; ``None`` if there are none."""
        found = [self.store.find(unit) for unit in self.units(experiment)]
        return Runs(tuple(one for one in found if one)) if any(found) else None


@dataclass(frozen=True)
class State:
    """The state of a chapter's stored results under today's code and configuration."""

    found: tuple[Result, ...]
    standings: Mapping[str, list[str]]
    """The units, in words, of each standing that :mod:`loupe.experiment.provenance` knows."""

    @classmethod
    def of(cls, stored: Stored) -> "State":
        found, standings, origin = [], defaultdict(list), provenance.origin_checker()
        for unit in stored.units():
            word, result = provenance.standing_result(unit, stored.store, origin)
            standings[word].append(f"{unit.experiment} seed {unit.seed}")
            found += [] if result is None else [result]
        return cls(tuple(found), standings)

    @property
    def other_code(self) -> list[str]:
        """The units whose results were made by code that has changed since."""
        return self.standings.get(provenance.OTHER_CODE, [])

    @property
    def needs_attention(self) -> bool:
        return bool(self.standings.keys() - {provenance.CURRENT})

    def extent(self) -> str:
        """How many of the preset's units are there, and of which seeds: ``17 of 51 runs so far, seed 0``."""
        seeds = sorted({result.seed for result in self.found})
        of_all = sum(map(len, self.standings.values()))
        runs = (
            f"all {of_all} runs"
            if len(self.found) == of_all
            else f"{len(self.found)} of {of_all} runs so far"
        )
        return f"{runs}, seed{'s' * (len(seeds) > 1)} {render.setting(seeds)}"

    def cost(self) -> str:
        """The time and memory that all results took."""
        made_by = [result.provenance for result in self.found]
        seconds, cpu = (sum(one[key] for one in made_by) for key in ("seconds", "cpu_seconds"))
        peak = max(one["peak_memory_mb"] for one in made_by)
        took = f"{cpu:,.0f} CPU-seconds ({seconds:,.0f} s in {len(made_by)} one-thread processes)"
        return f"{took}, peak {peak:,} MB each"

    def sentence(self) -> str:
        commits = distinct(result.provenance["commit"] for result in self.found)
        more = f" and {len(commits) - 4} more" if commits[4:] else ""
        parts = [f"commit {', '.join(commits[:4])}{more}"] if commits else []
        if self.found and not self.standings.keys() & {provenance.OTHER_CODE, provenance.OTHER_DATA}:
            parts.append("current")
        how = {provenance.OTHER_CODE: "made by other code", provenance.OTHER_DATA: "made from other data"}
        for word in (*how, provenance.MISSING, provenance.DAMAGED):
            if names := self.standings.get(word):
                more = f" and {len(names) - 4} more" if names[4:] else ""
                parts.append(f"{len(names)} {how.get(word, word)}: {', '.join(names[:4])}{more}")
        return "; ".join(parts)


def distinct(values: Iterable[str]) -> list[str]:
    """The values without duplicates, in order."""
    return list(dict.fromkeys(values))


def of_shared_seeds(*runs: Runs) -> list[Runs]:
    """The same experiments, each at the seeds that all of them have, in the order of the first, to compare in pairs."""
    by_seed = [{result.seed: result for result in each} for each in runs]
    seeds = [seed for seed in by_seed[0] if all(seed in each for each in by_seed)]
    return [Runs(tuple(each[seed] for seed in seeds)) for each in by_seed]


# --- rows -------------------------------------------------------------------------------------------------


def columns(rows: Iterable[Mapping[str, Any]]) -> dict[str, np.ndarray]:
    """Rows as an experiment returns them: an array for each key, with one entry for each row.

    >>> columns([{"method": "HNN", "score": 0.5}, {"method": "MLP", "score": 0.75}])
    {'method': array(['HNN', 'MLP'], dtype='<U3'), 'score': array([0.5 , 0.75])}
    """
    rows = list(rows)
    return {name: np.array([each[name] for each in rows]) for name in rows[0]}


def row(found: Runs | Mapping[str, Any], value: str, **labels: Any) -> np.ndarray:
    """A value in the one row with these labels: ``row(runs, "score", method="MLP")``.

    Of a single result it is the entry of that row, of runs the entries of all seeds, stacked. Labels are columns, too;
    every seed has the same.

    Raises
    ------
    LoupeError
        Unless exactly one row has all these labels.

    >>> float(row({"method": np.array(["HNN", "MLP"]), "score": np.array([0.5, 0.75])}, "score", method="MLP"))
    0.75
    """
    one = found.first if isinstance(found, Runs) else found
    places = np.flatnonzero(np.all([one[name] == label for name, label in labels.items()], axis=0))
    if len(places) != 1:
        wanted = ", ".join(f"{name}={label!r}" for name, label in labels.items())
        raise LoupeError(f"{len(places)} rows have {wanted}: name the labels of exactly one.")
    return found[value][:, places[0]] if isinstance(found, Runs) else found[value][places[0]]


# --- results for figures ----------------------------------------------------------------------------------


OWN = "own"
"""In an order of presets, the preset at which a chapter is opened."""

PUBLISHED_PRESETS = ("gpu", "cpu")
"""The presets that a page may use, the largest first."""


@dataclass(frozen=True)
class Found:
    """The runs of an experiment, or of several by name, and their preset.

    ``found["name"]`` gives the runs of one of several.
    """

    runs: Runs | dict[str, Runs]
    preset: str
    chapter: "Chapter | None" = None

    @property
    def settings(self) -> Preset:
        """The settings of the preset, with the chapter's overrides if it is the chapter's own preset."""
        own = self.preset == self.chapter.preset
        return self.chapter.config if own else self.chapter.room.PRESETS[self.preset]

    def __getitem__(self, name: str) -> Runs:
        return self.runs[name]

    @property
    def seeds(self) -> str:
        """Number of seeds in words: ``1 seed``, ``3 seeds``, or ``1 to 3 seeds`` if experiments differ."""
        counts = sorted({len(runs) for runs in self._every()})
        least = f"{counts[0]} to " if len(counts) > 1 else ""
        return f"{least}{counts[-1]} seed" + "s" * (counts[-1] > 1)

    @property
    def label(self) -> str:
        """Preset and seeds for the head of a table: ``gpu, 3 seeds``."""
        return f"{self.preset}, {self.seeds}"

    @property
    def first_seed(self) -> int:
        """The seed of the first run, for figures of one run."""
        return self._every()[0].seeds[0]

    def beside(self, experiment: str) -> Runs | None:
        """The runs of another experiment at the same preset, as far as they are there."""
        return stored_at(self.chapter, experiment, self.preset, partial=True)

    def _every(self) -> list[Runs]:
        return [self.runs] if isinstance(self.runs, Runs) else list(self.runs.values())


def find(
    chapter: "Chapter", names: Sequence[str], presets: Sequence[str] | None = None, partial: bool = False
) -> Found | None:
    """The runs of experiments at the first of ``presets`` that has all of them; ``None`` if none has.

    By default the largest preset comes first, unless the chapter was opened to compute or with overrides. With
    ``partial`` a preset counts as soon as it has one seed of each. ``found.runs`` is the runs for one name, and a
    dictionary for several.
    """
    presets = presets or ((OWN, *PUBLISHED_PRESETS) if is_own(chapter) else PUBLISHED_PRESETS)
    for preset in dict.fromkeys(chapter.preset if name == OWN else name for name in presets):
        runs = {name: stored_at(chapter, name, preset, partial) for name in names}
        if None not in runs.values():
            return Found(runs if len(names) > 1 else runs[names[0]], preset, chapter)
    return None


def is_own(chapter: "Chapter") -> bool:
    """Whether a chapter was opened to compute or with its own settings, rather than to be read."""
    stored = chapter.stored
    own = chapter.recompute or stored.overrides or stored.seed is not None
    return bool(own or chapter.preset not in PUBLISHED_PRESETS)


def stored_at(chapter: "Chapter", name: str, preset: str, partial: bool = False) -> Runs | None:
    """The runs of an experiment at exactly this preset; ``None`` if there are none or too few."""
    source = chapter.stored
    if preset == chapter.preset and chapter.computes and source.units(name):
        chapter.run(getattr(chapter.room, name))
    if preset != chapter.preset:
        source = replace(source, preset=preset, overrides={}, seed=None)
    try:
        return source.those_there(name) if partial else source[name]
    except StoreError:
        raise  # damaged is not missing
    except LoupeError:
        return None


def absent(what: str) -> render.Block:
    """A sentence in place of a figure whose results have not been computed."""
    text = f"Nothing to show here: {what} has not been computed yet."
    return render.Block(text, markdown=f"*{text}*")


# --- verdicts ----------------------------------------------------------------------------------------------


def judge_all(stored: Stored, claims: Iterable[judging.Claim] | None = None) -> list[judging.Judgement]:
    """Judge claims on stored results; by default all claims of the chapter."""
    claims = stored.room.CLAIMS if claims is None else claims
    return [judging.judge(claim, stored.preset, stored) for claim in claims]


def leading_verdicts(stored: Stored) -> list[judging.Judgement]:
    """Each claim at the largest preset that judged it, or else at the chapter's own."""
    presets = [name for name in folders.COMMITTED if name == stored.preset or not stored.overrides]
    every = [*(replace(stored, preset=name, seed=None) for name in presets), stored]
    return [
        next((one for one in judged if one.verdict != judging.NOT_TESTED), judged[-1])
        for judged in zip(*map(judge_all, every), strict=True)
    ]


def write_ledger(room: ModuleType, preset: str, store: Store) -> list[judging.Judgement]:
    """Judge a chapter at a preset and write its ledger, ``claims.json``, and its history."""
    slug, judgements = room.PAPER.slug, judge_all(Stored(room, preset, store))
    results = folders.judged_from(store, slug, preset)
    content = judging.ledger_json(slug, preset, judgements, results)
    folders.write_whole(store.ledger_file(slug, preset), content)
    if preset != "smoke":
        folders.record(store, slug, preset, judgements)
    return judgements


def check_ledger(room: ModuleType, preset: str, store: Store) -> None:
    """Compare a stored ledger with today's verdicts on the stored results.

    Raises
    ------
    LoupeError
        If they differ; the message names the first such claim.
    """
    slug = room.PAPER.slug
    written = folders.read_ledger(store, slug, preset)
    claims = {one["id"]: one for one in (written or {}).get("claims", [])}
    today = {one.claim.id: one.to_json() for one in judge_all(Stored(room, preset, store))}
    names = claims | today
    wrong = [name for name in names if not judging.same_claims(claims.get(name), today.get(name))]
    if wrong or written is None or written["results"] != folders.judged_from(store, slug, preset):
        what = f"claim {wrong[0]} does not follow" if wrong else "it does not follow"
        place = folders.show_path(store.ledger_file(slug, preset))
        raise LoupeError(
            f"{place}: {what} from the stored results: type `loupe compute {slug} --preset {preset}`."
        )
