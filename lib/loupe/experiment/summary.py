"""What the results of a chapter cost and how its claims stand, as rows of one table."""

from collections.abc import Iterable, Sequence

from loupe.experiment.chapter import Stored, judge_all
from loupe.experiment.folders import StoreError
from loupe.experiment.render import tally
from loupe.experiment.store import Result, Store
from loupe.experiment.units import Unit, experiments_of, room_of, units_of

HEAD = ("chapter", "experiment", "units", "seconds", "CPU-seconds", "peak MB", "verdicts")


def summary(slug: str, preset: str, store: Store, seeds: Sequence[int] = ()) -> list[tuple[str, ...]]:
    """The table of a chapter at a preset, one row an experiment and one for the whole, below :data:`HEAD`.

    Parameters
    ----------
    slug, preset, store
        The chapter, its preset, and where its results lie.
    seeds
        These seeds instead of those of the preset; claims need all of the preset's, so none is judged then.

    Returns
    -------
    list of tuple of str
        ``units`` reads stored/wanted; the claims are judged now, on what is stored.
    """
    room = room_of(slug)
    units = wanted(slug, preset, seeds)
    results = {unit: result for unit in units if (result := _readable(unit, store))}
    rows = []
    for name in experiments_of(room):
        mine = [unit for unit in units if unit.experiment == name]
        if mine:
            rows.append((slug, name, *_cost(mine, results), ""))
    verdicts = "" if seeds else _verdicts(Stored(room, preset, store))
    return [*rows, (slug, "all of it", *_cost(units, results), verdicts)]


def wanted(slug: str, preset: str, seeds: Iterable[int] = (), experiment: str | None = None) -> list[Unit]:
    """All units of a chapter (or of one experiment) at a preset, or at the given seeds instead of the preset's."""
    room = room_of(slug)
    return [
        unit
        for seed in list(seeds) or [None]
        for unit in units_of(room, preset, experiment=experiment, seed=seed)
    ]


def _readable(unit: Unit, store: Store) -> Result | None:
    try:
        return store.find(unit)
    except StoreError:
        return None


def _cost(units: list[Unit], results: dict[Unit, Result]) -> tuple[str, str, str, str]:
    costs = [results[unit].provenance for unit in units if unit in results]
    seconds, cpu = (sum(cost[key] for cost in costs) for key in ("seconds", "cpu_seconds"))
    peak = max((cost["peak_memory_mb"] for cost in costs), default=0)
    return f"{len(costs)}/{len(units)}", f"{seconds:,.1f}", f"{cpu:,.1f}", f"{peak:,}"


def _verdicts(stored: Stored) -> str:
    try:
        return tally([judgement.verdict for judgement in judge_all(stored)])
    except StoreError:
        return "not judged: a result is damaged"
