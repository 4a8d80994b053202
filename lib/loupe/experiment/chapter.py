"""A chapter as a notebook uses it: opened at a preset, with its results, card and ledger."""

import json
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from types import ModuleType
from typing import Any

from loupe.errors import LoupeError, shown
from loupe.experiment import claims as judging
from loupe.experiment import render
from loupe.experiment.compute import compute
from loupe.experiment.folders import PRESET_NAMES, project_root, show_path
from loupe.experiment.results import PUBLISHED_PRESETS, Runs, State, Stored, distinct, is_own, judge_all
from loupe.experiment.store import Store
from loupe.experiment.units import Preset, experiments_of, resolve_config, units_of


@dataclass(frozen=True)
class Chapter:
    """A chapter opened at one preset. Make one with :func:`loupe.open_chapter`.

    Shown as the last value of a cell, it is the chapter's card.
    """

    stored: Stored
    config: Preset
    recompute: bool = False
    _computed: set[str] = field(default_factory=set, repr=False)

    @property
    def room(self) -> ModuleType:
        """The paper's room, with its presets, experiments and claims."""
        return self.stored.room

    @property
    def computes(self) -> bool:
        """Whether experiments are computed here, each once, instead of only read from the store."""
        return self.recompute or self.preset == "smoke"

    @property
    def preset(self) -> str:
        """The name of the preset."""
        return self.stored.preset

    def run(self, function: Callable) -> Runs:
        """The results of an experiment over the preset's seeds.

        They come from the store. Missing results are computed only at ``smoke``; with ``recompute=True`` everything is
        computed again.

        Raises
        ------
        LoupeError
            If a result is missing; the message names the command that computes it.
        """
        name = function.__name__
        if self.computes and name not in self._computed:
            for before in function.after:
                self.run(getattr(self.room, before))
            compute(self.stored.units(name), self.stored.store, recompute=self.recompute)
            self._computed.add(name)
        return self.stored[name]

    def source(self, *functions: Callable) -> render.Block:
        """The source of functions as they ran, for the page, without docstrings."""
        return render.source(functions)

    @property
    def shown(self) -> list["Chapter"]:
        """The chapter at the presets of its page: the largest with results, from which the page is told, and this one."""
        larger = () if is_own(self) else PUBLISHED_PRESETS[: PUBLISHED_PRESETS.index(self.preset)]
        every = [
            replace(self, stored=replace(self.stored, preset=name), config=self.room.PRESETS[name])
            for name in larger
            if name in self.room.PRESETS
        ]
        return [*[one for one in every if one.state.found][:1], self]

    def card(self) -> render.Block:
        """The card under the title: paper, presets, cost, hardware, versions, source."""
        paper, states = self.room.PAPER, {one.preset: one.state for one in self.shown}
        changed = self.config.differences(self.room.PRESETS[self.preset])
        overrides = ", ".join(f"{one.field} = {render.setting(one.here)}" for one in changed)
        items = {"paper": f"{paper.title}. {paper.authors}. {paper.venue}"}
        for preset, state in states.items():
            if preset == self.preset:
                label = "preset" if len(states) == 1 else "your own run"
                items[label] = preset + (f" with {overrides}" if overrides else "")
            else:
                items["page told from"] = f"{preset}: {state.extent()}; {self.preset} where there are none"
        items["seeds" if len(states) == 1 else "its seeds"] = self._seeds()
        made_by = [result.provenance for state in states.values() for result in state.found]
        if made_by:
            costs = {preset: state.cost() for preset, state in states.items() if state.found}
            items["computed in"] = _by_preset(costs)
            items["hardware"] = "; ".join(distinct(one["hardware"] for one in made_by))
            items["versions"] = ", ".join(_versions(made_by))
        items["source"] = _by_preset({preset: state.sentence() for preset, state in states.items()})
        warn = "source" if states[self.preset].needs_attention else ""
        return render.card(items, f"https://arxiv.org/abs/{paper.arxiv}", warn)

    def differences(self) -> render.Block:
        """The settings that differ from the preset ``paper``, in the presets of the page."""
        shown, paper, rows, group = self.shown, self.room.PRESETS["paper"], [], ""
        for one in shown[0].config.differences(*(each.config for each in shown[1:]), paper):
            if one.group and one.group != group:
                rows.append((render.Strong(one.group), *([""] * len(one.values))))
            group = one.group
            rows.append(("\u2003" * bool(group) + one.meaning, *map(render.setting, one.values)))
        heads = [f"here, at {self.preset}"]
        if len(shown) == 2:
            heads = [f"this page, {shown[0].preset}", f"your own run, {self.preset}"]
        return render.table(("setting", *heads, "paper"), rows)

    def costs(self) -> render.Block:
        """The cost of each experiment's stored results, over all seeds, in the presets of the page."""
        rows, made_by = [], defaultdict(list)
        for preset, result in ((one.preset, result) for one in self.shown for result in one.state.found):
            made_by[preset, result.experiment].append(result.provenance)
        for (preset, name), made in made_by.items():
            cpu, peak = ([one[key] for one in made] for key in ("cpu_seconds", "peak_memory_mb"))
            # A resumed unit has the cost of its last attempt only.
            more = "more than " if any(one.get("resumed") for one in made) else ""
            rows.append(
                (name, preset, len(made), f"{more}{sum(cpu):,.0f}", f"{max(cpu):,.0f}", f"{max(peak):,}")
            )
        head = ("experiment", "preset", "seeds", "CPU, s", "longest, s", "peak, MB")
        return render.table(head, rows, numeric=True)

    def ledger(self, claims: Iterable[judging.Claim] | None = None) -> render.Block:
        """The claims with the paper's result, ours, the criterion and the verdict.

        There is one column for this preset and one for every other committed preset that has been judged.
        """
        store, overrides = self.stored.store, self.stored.overrides
        others = [] if overrides else store.judged_presets(self.room.PAPER.slug)
        columns = {name: judge_all(Stored(self.room, name, store), claims) for name in others}
        columns[self.preset] = self.judge(claims)
        return render.ledger({name: columns[name] for name in reversed(PRESET_NAMES) if name in columns})

    def benchmark(self) -> dict[str, Any]:
        """The stored measurements of ``benchmarks/SLUG.py``, as ``make bench`` wrote them."""
        path = project_root() / "results" / "bench" / f"{self.room.PAPER.slug}.json"
        try:
            return json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise LoupeError(f"{show_path(path)} cannot be read ({error}): type `make bench`.") from None

    def judge(self, claims: Iterable[judging.Claim] | None = None) -> list[judging.Judgement]:
        """Judge the given claims, or all of the chapter's, on the stored results."""
        if self.computes:
            for function in experiments_of(self.room).values():
                if self.stored.units(function.__name__):
                    self.run(function)
        return judge_all(self.stored, claims)

    def _repr_mimebundle_(self, **kwargs):
        return self.card()._repr_mimebundle_()

    def __str__(self) -> str:
        return str(self.card())

    def _seeds(self) -> str:
        """The seeds, with the names of separate lists that some experiments have."""
        if self.stored.seed is not None:
            return str(self.stored.seed)
        fields = distinct(["seeds", *(one.seeds_field for one in experiments_of(self.room).values())])
        lists = [f"{name.replace('_', ' ')}: {render.setting(getattr(self.config, name))}" for name in fields]
        return "; ".join(lists).removeprefix("seeds: ")

    @property
    def state(self) -> State:
        return State.of(self.stored)


def opened(room: ModuleType, preset: str, seed: int | None, recompute: Any, overrides: Any) -> Chapter:
    """A chapter opened for a notebook: :func:`loupe.open_chapter` with the paper's room instead of its slug."""
    recompute, overrides = _switch(recompute), _mapping(overrides)
    config = resolve_config(room, preset, overrides)
    units_of(room, preset, overrides, seed=seed)  # raise for wrong settings before anything is shown
    return Chapter(Stored(room, preset, Store.default(), overrides, seed), config, recompute)


def _switch(value: Any) -> bool:
    """A boolean, or its text as papermill passes it on; nothing else."""
    if isinstance(value, bool | str) and (word := str(value).lower()) in ("true", "false"):
        return word == "true"
    raise LoupeError(f"recompute={shown(value)} is refused: give True or False.")


def _mapping(value: Any) -> dict[str, Any]:
    """Settings by name, or the text of a JSON object as papermill passes it on."""
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except (ValueError, RecursionError):
            value = [value]
    if value is None or isinstance(value, Mapping):
        return dict(value or {})
    raise LoupeError(f"overrides={shown(value)} is refused: give settings by name, such as {{'repeats': 5}}.")


def _by_preset(texts: Mapping[str, str]) -> str:
    """One text, or those of two presets, each after its name."""
    named = [f"{preset}: {text}" for preset, text in texts.items()]
    return ". ".join(named) if named[1:] else next(iter(texts.values()))


def _versions(made_by: list[dict]) -> list[str]:
    """Each package with the versions used, Python first."""
    seen = defaultdict(list)
    for one in made_by:
        for package, version in one["versions"].items():
            seen[package].append(version)
    return [f"{package} {'/'.join(distinct(versions))}" for package, versions in seen.items()]
