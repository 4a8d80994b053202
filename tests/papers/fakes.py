"""Stand-ins for stored results, for tests of what is judged and drawn from them."""

from dataclasses import dataclass, field

from loupe.experiment.folders import MissingResultError


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
