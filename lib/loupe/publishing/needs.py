"""Which experiments need data that are not on this machine."""

import json
import re
from collections.abc import Iterator

from loupe.data import CATALOG, locate
from loupe.data.text import BOXED_CHARACTERS
from loupe.experiment.closure import Closure, read_sources
from loupe.experiment.folders import PRESET_NAMES
from loupe.experiment.store import Store
from loupe.experiment.units import experiments_of
from loupe.papers import PAPERS, load_room


def units_that_need_more() -> Iterator[tuple[str, str, str, str]]:
    """The experiments whose settings name a missing dataset: chapter, preset, experiment, datasets."""
    sources = read_sources()
    missing = {name for name in CATALOG if locate(name).where == "missing"}
    for slug in [paper.slug for paper in PAPERS.values() if not paper.planned]:
        room = load_room(slug)
        for experiment, function in experiments_of(room).items():
            fields = _settings_read(slug, experiment) or _settings_in_reach(sources, slug, experiment)
            fields &= set(room.Config.model_fields)
            for preset in PRESET_NAMES:
                config = room.PRESETS[preset]
                read = json.loads(config.model_dump_json(include=fields))
                named = set(re.findall(r"\w+", json.dumps(read)))
                needed = sorted(named & missing) + _more_novels(named, read)
                if needed and getattr(config, function.seeds_field):
                    yield slug, preset, experiment, ", ".join(needed)


def _settings_read(slug: str, experiment: str) -> set[str]:
    """The settings that a stored result of the experiment read, at any preset."""
    store = Store.default()
    for preset in reversed(PRESET_NAMES):
        for path in store.sidecars(slug, preset):
            if path.stem.startswith(f"{experiment}-s"):
                return set(json.loads(path.read_bytes())["settings"])
    return set()


def _settings_in_reach(sources: dict[str, str], slug: str, experiment: str) -> set[str]:
    """The settings that its code can reach, which may be more."""
    pieces = Closure(sources, slug, experiment).reached[f"loupe.papers.{slug}.config"]
    return {piece.name.partition(".")[2] for piece in pieces}


def _more_novels(named: set[str], read: dict) -> list[str]:
    """The novels, if more characters are read than the checkout's folder ``data`` has."""
    if "novels27" not in named or locate("novels27").where != "box" or locate("novels27", box=False).paths:
        return []
    counts = [value for name, value in read.items() if name.endswith("characters")]
    return ["novels27 (all of it)"] * any(count is None or count > BOXED_CHARACTERS for count in counts)
