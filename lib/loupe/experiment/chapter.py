"""What a notebook holds: a chapter opened at a preset, its results, its card and its ledger."""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any

import numpy as np

from loupe.errors import LoupeError, shown
from loupe.experiment import claims as judging
from loupe.experiment import render
from loupe.experiment.compute import compute
from loupe.experiment.folders import (
    PRESET_NAMES,
    MissingResultError,
    StoreError,
    judged_from,
    project_root,
    read_ledger,
    show_path,
)
from loupe.experiment.history import record
from loupe.experiment.outdated import OTHER_CODE, OTHER_DATA, origin_checker
from loupe.experiment.presets import Preset
from loupe.experiment.store import Result, Store, compute_command, write_whole
from loupe.experiment.units import Unit, experiments_of, resolve_config, room_of, units_of


@dataclass(frozen=True)
class Runs:
    """The results of one experiment over its seeds.

    ``runs["name"]`` stacks a value of every seed along a new first axis; iterating gives the single results.
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
class Stored(Mapping):
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
        results = {unit: self.store.find(unit) for unit in units}
        missing = [unit for unit, result in results.items() if result is None]
        if missing:
            raise MissingResultError(self._missing(missing))
        return Runs(tuple(results.values()))

    def _missing(self, units: list[Unit]) -> str:
        seeds = ", ".join(str(unit.seed) for unit in units)
        words = f"seed{'s' * (len(units) > 1)} {seeds}"
        what = (
            f"{units[0].slug}/{units[0].experiment} has no stored result of today's configuration for {words}"
        )
        return f"{what} at preset {self.preset}: type `{compute_command(units[0])}`."

    def __iter__(self) -> Iterator[str]:
        return iter(experiments_of(self.room))

    def __len__(self) -> int:
        return len(experiments_of(self.room))


@dataclass(frozen=True)
class Chapter:
    """A chapter opened at one preset. Make one with :func:`open_chapter`.

    Shown as the last value of a cell, it is the chapter's card.
    """

    stored: Stored
    config: Preset
    recompute: bool = False

    @property
    def room(self) -> ModuleType:
        """The paper's room, with its presets, experiments and claims."""
        return self.stored.room

    @property
    def preset(self) -> str:
        """The name of the preset."""
        return self.stored.preset

    def run(self, function: Callable) -> Runs:
        """The results of an experiment over the preset's seeds.

        They come from the store. What is missing is computed here only at ``smoke``, and everything is computed
        again if the chapter was opened with ``recompute=True``.

        Raises
        ------
        LoupeError
            If a result is missing; the sentence names the command that makes it.
        """
        name = function.__name__
        if self.recompute or self.preset == "smoke":
            compute(self.stored.units(name), self.stored.store, recompute=self.recompute)
        return self.stored[name]

    def source(self, *functions: Callable, docstring: bool = False) -> render.Block:
        """The source of functions as they ran, for the page; without their docstrings unless asked for."""
        return render.source(functions, docstring=docstring)

    def card(self) -> render.Block:
        """What stands under the title: paper, preset, cost, hardware, versions, source."""
        return render.card(self._card_items())

    def differences(self) -> render.Block:
        """What is smaller here: the settings that differ from the preset ``paper``."""
        differences = self.config.differences(self.room.PRESETS["paper"])
        rows = [(one.meaning, render.setting(one.here), render.setting(one.there)) for one in differences]
        return render.table(("setting", f"here, at {self.preset}", "at paper"), rows)

    def costs(self) -> render.Block:
        """What the stored results of each experiment took, over all its seeds."""
        rows, found = [], self.state.found
        for name in self.stored:
            made_by = [result.provenance for result in found if result.experiment == name]
            if made_by:
                cpu, peak = ([one[key] for one in made_by] for key in ("cpu_seconds", "peak_memory_mb"))
                # A unit that was interrupted and went on has the cost of its last attempt only.
                more = "more than " if any(one.get("resumed") for one in made_by) else ""
                rows.append(
                    (name, str(len(made_by)), f"{more}{sum(cpu):,.0f}", f"{max(cpu):,.0f}", f"{max(peak):,}")
                )
        head = ("experiment", "seeds", "CPU-seconds in all", "longest unit", "peak memory, MB")
        return render.table(head, rows, numeric=True)

    def ledger(self, claims: Iterable[judging.Claim] | None = None) -> render.Block:
        """The claims with the paper's word, ours, the criterion and the verdict.

        Beside this preset's column stands that of every other committed preset that has been judged.
        """
        columns = {self.preset: [one.to_json() for one in self.judge(claims)]}
        if not self.stored.overrides:
            columns = ledgers_today(self.room.PAPER.slug, self.stored.store) | columns
        order = [name for name in reversed(PRESET_NAMES) if name in columns]
        return render.ledger({name: columns[name] for name in order}, self.preset)

    def benchmark(self) -> dict[str, Any]:
        """The stored measurements of ``benchmarks/SLUG.py``, as ``make bench`` wrote them."""
        path = project_root() / "results" / "bench" / f"{self.room.PAPER.slug}.json"
        try:
            return json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise LoupeError(f"{show_path(path)} cannot be read ({error}): type `make bench`.") from None

    def judge(self, claims: Iterable[judging.Claim] | None = None) -> list[judging.Judgement]:
        """Judge the given claims, or all of the chapter's, on the stored results."""
        return judge_all(self.stored, claims)

    def _repr_mimebundle_(self, **kwargs):
        return self.card()._repr_mimebundle_()

    def __str__(self) -> str:
        return str(self.card())

    def _card_items(self) -> list[render.CardItem]:
        paper = self.room.PAPER
        changed = self.config.differences(self.room.PRESETS[self.preset])
        overrides = ", ".join(f"{one.field} = {render.setting(one.here)}" for one in changed)
        state = self.state
        made_by = [result.provenance for result in state.found]
        items = [
            render.CardItem("paper", f"{paper.title}. {paper.authors}. {paper.venue}", wide=True,
                            link=f"https://arxiv.org/abs/{paper.arxiv}"),
            render.CardItem("preset", self.preset + (f" with {overrides}" if overrides else "")),
            render.CardItem("seeds", self._seeds()),
        ]  # fmt: skip
        if made_by:
            seconds, cpu = (sum(one[key] for one in made_by) for key in ("seconds", "cpu_seconds"))
            peak = max(one["peak_memory_mb"] for one in made_by)
            items += [
                render.CardItem("computed in", f"{cpu:,.0f} CPU-seconds ({seconds:,.0f} s in {len(made_by)} "
                                               f"one-thread processes), peak {peak:,} MB each"),
                render.CardItem("hardware", "; ".join(_distinct(one["hardware"] for one in made_by))),
                render.CardItem("versions", ", ".join(_versions(made_by))),
            ]  # fmt: skip
        items.append(render.CardItem("source", state.sentence(), warn=state.needs_attention))
        return items

    def _seeds(self) -> str:
        """The seeds, with the names of the lists that some experiments have of their own."""
        if self.stored.seed is not None:
            return str(self.stored.seed)
        fields = dict.fromkeys(["seeds", *(one.seeds_field for one in experiments_of(self.room).values())])
        lists = [(name, render.setting(getattr(self.config, name))) for name in fields]
        return "; ".join(
            seeds if name == "seeds" else f"{name.replace('_', ' ')}: {seeds}" for name, seeds in lists
        )

    @property
    def state(self) -> "State":
        return State.of(self.stored)


@dataclass(frozen=True)
class State:
    """How the stored results of a chapter stand to today's code and configuration."""

    found: tuple[Result, ...]
    other_code: tuple[str, ...]
    other_data: tuple[str, ...]
    missing: tuple[str, ...]
    damaged: tuple[str, ...]

    @classmethod
    def of(cls, stored: Stored) -> "State":
        found, missing, damaged = [], [], []
        others, origin = {OTHER_CODE: [], OTHER_DATA: []}, origin_checker()
        for unit in stored.units():
            name = f"{unit.experiment} seed {unit.seed}"
            try:
                result = stored.store.find(unit)
            except StoreError:
                damaged.append(name)
                continue
            if result is None:
                missing.append(name)
                continue
            found.append(result)
            others.get(origin(result), []).append(name)
        return cls(tuple(found), *map(tuple, others.values()), tuple(missing), tuple(damaged))

    @property
    def needs_attention(self) -> bool:
        return bool(self.other_code or self.other_data or self.missing or self.damaged)

    def sentence(self) -> str:
        commits = ", ".join(_distinct(result.provenance["commit"] for result in self.found))
        parts = [f"commit {commits}"] if commits else []
        if self.found and not self.other_code and not self.other_data:
            parts.append("current")
        parts += [
            f"{len(names)} {word}: {_shorten(names)}"
            for word, names in (("made by other code", self.other_code), ("made from other data", self.other_data),
                                ("missing", self.missing), ("damaged", self.damaged))
            if names
        ]  # fmt: skip
        return "; ".join(parts)


def open_chapter(
    slug: str,
    *,
    preset: str = "smoke",
    seed: int | None = None,
    recompute: bool = False,
    overrides: Mapping[str, Any] | None = None,
) -> Chapter:
    """Open a chapter for a notebook.

    Parameters
    ----------
    slug
        The paper, as in ``loupe list``.
    preset
        ``smoke``, ``cpu``, ``gpu`` or ``paper``.
    seed
        One seed instead of all that the preset lists.
    recompute
        Compute here and now, instead of drawing from the store.
    overrides
        Settings that replace those of the preset, checked against the chapter's ``Config``.

    Returns
    -------
    Chapter

    Raises
    ------
    LoupeError
        If a name is unknown or a value is refused.
    """
    room = room_of(slug)
    recompute, overrides = _switch(recompute), _mapping(overrides)
    config = resolve_config(room, preset, overrides)
    units_of(room, preset, overrides, seed=seed)  # refuses what is wrong before anything is shown
    return Chapter(Stored(room, preset, Store.default(), overrides, seed), config, recompute)


def _switch(value: Any) -> bool:
    """True or false, also in the words that papermill hands on as they were typed; nothing else."""
    words = {"true": True, "false": False}
    if isinstance(value, bool):
        return value
    if isinstance(value, str) and value.lower() in words:
        return words[value.lower()]
    raise LoupeError(f"recompute={shown(value)} is refused: give True or False.")


def _mapping(value: Any) -> dict[str, Any]:
    """Settings by name, also as the text of a JSON object, which is how papermill hands them on."""
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except (ValueError, RecursionError):
            value = [value]
    if value is None or isinstance(value, Mapping):
        return dict(value or {})
    raise LoupeError(f"overrides={shown(value)} is refused: give settings by name, such as {{'repeats': 5}}.")


def judge_all(stored: Stored, claims: Iterable[judging.Claim] | None = None) -> list[judging.Judgement]:
    """Judge claims on what is stored; all the claims of the chapter unless some are given."""
    claims = stored.room.CLAIMS if claims is None else claims
    return [judging.judge(claim, stored.preset, stored) for claim in claims]


def write_ledger(slug: str, preset: str, store: Store) -> list[judging.Judgement]:
    """Judge a chapter at a preset and write the machine's copy of its ledger, ``claims.json``, and its history."""
    judgements = judge_all(Stored(room_of(slug), preset, store))
    results = judged_from(store, slug, preset)
    write_whole(store.ledger_file(slug, preset), judging.ledger_json(slug, preset, judgements, results))
    if preset != "smoke":
        record(store, slug, preset, judgements)
    return judgements


def ledgers_today(slug: str, store: Store) -> dict[str, list[dict[str, Any]]]:
    """A chapter's claims at every committed preset that has a ledger, judged anew on what is stored."""
    room = room_of(slug)
    return {
        preset: [one.to_json() for one in judge_all(Stored(room, preset, store))]
        for preset in store.judged_presets(slug)
    }


def check_ledger(slug: str, preset: str, store: Store) -> None:
    """Compare the machine's copy of a ledger with what the stored results say today.

    Raises
    ------
    LoupeError
        If they differ; the sentence names the first claim that does.
    """
    written = read_ledger(store, slug, preset)
    claims = {one["id"]: one for one in (written or {}).get("claims", [])}
    today = {one.claim.id: one.to_json() for one in judge_all(Stored(room_of(slug), preset, store))}
    wrong = [
        name for name in {**claims, **today} if not judging.same_claims(claims.get(name), today.get(name))
    ]
    if wrong or written is None or written["results"] != judged_from(store, slug, preset):
        what = f"claim {wrong[0]} does not follow" if wrong else "it does not follow"
        place = show_path(store.ledger_file(slug, preset))
        raise LoupeError(
            f"{place}: {what} from the stored results: type `loupe compute {slug} --preset {preset}`."
        )


def _distinct(values: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(values))


def _versions(made_by: list[dict]) -> list[str]:
    """Each package with the versions that were used, Python first."""
    seen: dict[str, dict[str, None]] = {}
    for one in made_by:
        for package, version in one["versions"].items():
            seen.setdefault(package, {})[version] = None
    return [f"{package} {'/'.join(versions)}" for package, versions in seen.items()]


def _shorten(names: tuple[str, ...], most: int = 4) -> str:
    rest = len(names) - most
    return ", ".join(names[:most]) + (f" and {rest} more" if rest > 0 else "")
