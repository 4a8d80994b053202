"""Stand-ins for stored results, for tests of what is judged and drawn from them."""

import inspect
from dataclasses import dataclass, field

from loupe.experiment.folders import MissingResultError
from loupe.experiment.results import Runs


class FakeResult(dict):
    """A stored result of one seed."""

    def __init__(self, seed, values):
        super().__init__(values)
        self.seed = seed


@dataclass(frozen=True)
class FakeStored:
    """What is stored of a chapter, by preset and experiment."""

    found: dict
    preset: str = "smoke"
    overrides: dict = field(default_factory=dict)
    seed: int | None = None

    def __getitem__(self, name):
        try:
            return self.found[self.preset, name]
        except KeyError:
            raise MissingResultError(f"{name} is missing.") from None

    @classmethod
    def of(cls, found, preset="smoke", overrides=None, **others):
        """With these results by experiment at a preset, and with those of other presets by their names."""
        every = {
            (of, name): runs for of, some in {preset: found, **others}.items() for name, runs in some.items()
        }
        return cls(every, preset, overrides or {})


def computed(room, config, names, folders):
    """Experiments of a chapter, each run once in this process with seed 0.

    Parameters
    ----------
    room : module
        Of the chapter.
    config : loupe.experiment.units.Preset
    names : iterable of str
    folders : pytest.TempPathFactory
        Gives a folder to every experiment that asks for one.

    Returns
    -------
    dict of Runs
    """
    found = {}
    for name in names:
        run = getattr(room, name)
        work = {"work": folders.mktemp(name)} if "work" in inspect.signature(run).parameters else {}
        found[name] = Runs((FakeResult(0, run(config, seed=0, device="cpu", **work)),))
    return found
