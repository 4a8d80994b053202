"""The closure holds what can change an experiment's values, and nothing else."""

import pytest

from loupe.experiment.closure import Closure, read_sources

ROOM = "loupe.papers.toy"
SOURCES = {
    "loupe": "",
    "loupe.papers": "",
    ROOM: "from loupe.papers.toy.experiments import measure\nfrom loupe.papers.toy.config import Config, PRESETS\n",
    f"{ROOM}.config": "class Config(Preset):\n    steps: int = 3\n    other: int = 4\nPRESETS = {'cpu': Config()}\n",
    f"{ROOM}.experiments": '''
"""Module docstring."""
import math
import loupe.maths.shapes as shapes
from loupe.maths import late
from loupe.experiment import experiment

FACTOR = 2.0
UNUSED = 3.0
TABLE = {}
TABLE["k"] = 1


def helper(x: float) -> float:
    """Doc."""
    return x * FACTOR  # why


@experiment(seeds="seeds")
def measure(config, *, seed, device):
    """Doc."""
    from loupe.maths.inner import deep
    shape = shapes.Square(config.steps)
    area = getattr(shape, f"{config.how}_area")()
    return {"x": helper(math.pi) + shape.width() + late(), "y": deep(TABLE, "registry:entry"), "z": area}


def bystander():
    return UNUSED
''',
    "loupe.experiment": "def experiment(seeds):\n    return lambda function: function\n",
    "loupe.maths": '_LATER = {"late": "afterwards"}\n\ndef __getattr__(name):\n    return import_module(_LATER[name])\n',
    "loupe.maths.afterwards": "def late():\n    return 1\n\ndef never():\n    return 2\n",
    "loupe.maths.shapes": """
from loupe.maths.base import Shape
import torch

torch.backends.quick = True


class Square(Shape):
    sides = 4

    def __init__(self, a):
        self.a = a

    def width(self):
        return self.a

    def height(self):
        return self.a + 0

    def fast_area(self):
        return self.a**2

    @property
    def decorated(self):
        return 0


class Circle(Shape):
    def width(self):
        return 2
""",
    "loupe.maths.base": "class Shape:\n    def width(self):\n        return 0\n    def depth(self):\n        return 1\n",
    "loupe.maths.inner": "def deep(table, name):\n    return Network()\n\n"
    "class Network(nn.Module):\n    def forward(self):\n        return 5\n",
    "loupe.maths.registry": "def entry():\n    return 7\n\ndef other():\n    return 8\n",
    f"{ROOM}.registry": "def entry():\n    return 9\n",
}


def digests(**changed):
    return Closure(SOURCES | changed, "toy", "measure").digests()


def with_change(module, old, new):
    assert old in SOURCES[module]
    return digests(**{module: SOURCES[module].replace(old, new)})


@pytest.mark.parametrize(
    ("module", "old", "new"),
    [
        (f"{ROOM}.experiments", "FACTOR = 2.0", "FACTOR = 2.5"),
        (f"{ROOM}.experiments", "x * F", "x + F"),
        (f"{ROOM}.experiments", "math.pi", "math.e"),
        (f"{ROOM}.experiments", 'TABLE["k"] = 1', 'TABLE["k"] = 2'),
        (f"{ROOM}.experiments", 'seeds="seeds"', 'seeds="late_seeds"'),
        (f"{ROOM}.registry", "return 9", "return 10"),
        (f"{ROOM}.config", "steps: int = 3", "steps: float = 3"),
        ("loupe.experiment", "return lambda function: function", "return None"),
        ("loupe.maths", '_LATER = {"late": "afterwards"}', '_LATER = {"late": "registry"}'),
        ("loupe.maths.afterwards", "return 1", "return 3"),
        ("loupe.maths.shapes", "self.a = a", "self.a = 2 * a"),
        ("loupe.maths.shapes", "sides = 4", "sides = 5"),
        ("loupe.maths.shapes", "        return self.a\n", "        return -self.a\n"),
        ("loupe.maths.shapes", "self.a**2", "self.a**3"),
        ("loupe.maths.shapes", "return 0", "return 1"),
        ("loupe.maths.shapes", "quick = True", "quick = False"),
        ("loupe.maths.shapes", "class Square(Shape)", "class Square(Shape, Other)"),
        ("loupe.maths.base", "return 0", "return 1"),
        ("loupe.maths.inner", "return 5", "return 6"),
    ],
)
def test_what_can_change_the_experiment_is_seen(module, old, new):
    before, after = digests(), with_change(module, old, new)
    assert before[module] != after.get(module)


@pytest.mark.parametrize(
    ("module", "old", "new"),
    [
        (f"{ROOM}.experiments", "# why", "# because"),
        (f"{ROOM}.experiments", '"""Doc."""', '"""Other."""'),
        (f"{ROOM}.experiments", "x: float", "x: int"),
        (f"{ROOM}.experiments", "-> float", "-> int"),
        (f"{ROOM}.experiments", "x * FACTOR", "(x  *  FACTOR)"),
        (f"{ROOM}.experiments", "UNUSED = 3.0", "UNUSED = 4.0"),
        (f"{ROOM}.experiments", "return UNUSED", "return 0"),
        (f"{ROOM}.config", "other: int = 4", "other: int = 5"),
        (f"{ROOM}.config", "'cpu'", "'gpu'"),
        ("loupe.maths.afterwards", "return 2", "return 3"),
        ("loupe.maths.shapes", "self.a + 0", "self.a + 1"),
        ("loupe.maths.shapes", "return 2", "return 3"),
        ("loupe.maths.base", "return 1", "return 2"),
        ("loupe.maths.registry", "return 8", "return 9"),
    ],
)
def test_what_cannot_change_it_is_ignored(module, old, new):
    assert digests() == with_change(module, old, new)


TABLE = (
    "import importlib\n\nREADERS = {'sun': 'readers:sun', 'moon': 'readers:moon'}\n\n"
    "def load(name):\n    return READERS[name]\n"
)
READERS = "def sun():\n    return 1\n\ndef moon():\n    return 2\n\ndef star():\n    return 3\n"


@pytest.mark.parametrize(
    ("written", "words", "taken"),
    [
        ("'sun'", [], ["sun"]),
        ("config.name", ["name", "moon", "fcn"], ["moon"]),
        ("config.name", ["moons"], []),
        ("config.name", None, ["moon", "sun"]),
    ],
)
def test_of_a_table_of_functions_counts_what_is_named(written, words, taken):
    experiments = f"from loupe.door import load\n\ndef measure(config, seed):\n    return load({written})\n"

    def closure(table=TABLE, readers=READERS):
        sources = {ROOM: f"from {ROOM}.experiments import measure\n", f"{ROOM}.experiments": experiments,
                   "loupe": "", "loupe.door": table, "loupe.readers": readers}  # fmt: skip
        return Closure(sources, "toy", "measure", words)

    before = closure()
    assert before.taken() == taken
    for name, value in (("sun", 1), ("moon", 2)):
        changed = (
            closure(readers=READERS.replace(f"return {value}", "return 0")).digests() != before.digests()
        )
        assert changed == (name in taken)
        changed = (
            closure(table=TABLE.replace(f"readers:{name}", "readers:star")).digests() != before.digests()
        )
        assert changed == (name in taken)
    assert closure(table=TABLE.replace("{'sun'", "{'star': 'readers:star', 'sun'")).taken() == (
        taken if words is not None else ["moon", "star", "sun"]
    )


def test_an_experiment_that_is_gone_reaches_nothing():
    assert Closure(SOURCES, "toy", "gone").digests().keys() <= {f"{ROOM}.config"}
    assert Closure(SOURCES, "nowhere", "measure").digests() == {}


@pytest.fixture(scope="module")
def sources():
    return read_sources()


def current_after(sources, module, old, new, slug, experiment):
    assert old in sources[module]
    edited = sources | {module: sources[module].replace(old, new)}
    return Closure(sources, slug, experiment).digests() == Closure(edited, slug, experiment).digests()


def test_an_edit_in_one_room_marks_the_experiments_that_run_it(sources):
    """Three edits that an earlier rule missed, or flagged far too widely."""
    helper = ("loupe.papers.sedd.experiments_networks", "first.bits_per_character(tokens)", "0")
    assert not current_after(sources, *helper, "sedd", "judged")
    assert current_after(sources, *helper, "sedd", "sedd_absorb")
    unused = ("loupe.training.batches", "return ", "return 0 + ")
    assert current_after(sources, *unused, "sedd", "sedd_absorb")
    assert not current_after(sources, *unused, "ph_dimension", "gap_grid")
    draws = ("loupe.diffusion.discrete.draws", "return ", "return 0 + ")
    assert current_after(sources, *draws, "reflected_diffusion", "images_reflected")
    assert not current_after(sources, *draws, "sedd", "samples_absorb")


def test_an_entry_put_into_the_table_of_another_module_acts():
    """As a solver enters itself in the list of all: who reaches the module that does so reaches the solver."""
    sources = {
        "loupe": "", ROOM: f"from {ROOM}.experiments import measure\n",
        f"{ROOM}.experiments": "from loupe.table import ALL\nimport loupe.solver\n\n"
        "def measure(config, seed):\n    return ALL['quick'], loupe.solver.SIZE\n",
        "loupe.table": "ALL = {}\n",
        "loupe.solver": "from loupe.table import ALL\n\nSIZE = 1\n\ndef quick():\n    return 2\n\nALL['quick'] = quick\n",
    }  # fmt: skip
    before = Closure(sources, "toy", "measure").digests()
    sources["loupe.solver"] = sources["loupe.solver"].replace("return 2", "return 3")
    assert Closure(sources, "toy", "measure").digests() != before
