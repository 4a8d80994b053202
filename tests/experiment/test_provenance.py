"""The digest of code sees what changes values, and nothing else."""

import importlib
import sys
import textwrap

import pytest

from loupe.experiment import provenance

SOURCE = '''
"""Module docstring."""
import math

FACTOR = 2.0
UNUSED = 3.0


def helper(x: float) -> float:
    """Doc."""
    return x * FACTOR  # why


def measure(config, *, seed, device):
    """Doc."""
    return {"x": helper(math.pi)}


def bystander():
    return UNUSED
'''


@pytest.fixture
def digest(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)

    def of(source, whole=False):
        path = tmp_path / "sample_module.py"
        path.write_text(textwrap.dedent(source))
        importlib.invalidate_caches()
        provenance._parse.cache_clear()
        sys.modules.pop("sample_module", None)
        if whole:
            return provenance.module_digest("sample_module")
        return provenance.function_digest("sample_module", "measure")

    return of


@pytest.mark.parametrize(
    ("old", "new"),
    [("# why", "# because"), ('"""Doc."""', '"""Other."""'), ("x: float", "x: int"), ("UNUSED = 3.0", "UNUSED = 4.0"),
     ("return UNUSED", "return 0"), ("x * FACTOR", "(x  *  FACTOR)")],
)  # fmt: skip
def test_what_cannot_change_the_experiment_is_ignored(digest, old, new):
    assert old in SOURCE
    assert digest(SOURCE) == digest(SOURCE.replace(old, new))


@pytest.mark.parametrize(
    ("old", "new"), [("FACTOR = 2.0", "FACTOR = 2.5"), ("x * F", "x + F"), ("math.pi", "math.e")]
)
def test_what_can_change_it_is_seen(digest, old, new):
    assert old in SOURCE
    assert digest(SOURCE) != digest(SOURCE.replace(old, new))


def test_a_whole_module_counts_all_its_code(digest):
    assert digest(SOURCE, whole=True) != digest(SOURCE.replace("UNUSED = 3.0", "UNUSED = 4.0"), whole=True)
    assert digest(SOURCE, whole=True) == digest(SOURCE.replace("# why", ""), whole=True)


def test_a_result_of_a_module_that_is_gone_is_of_other_code():
    assert not provenance.is_current({"loupe.gone": "abc"})
    assert not provenance.is_current({"loupe.papers.ph_dimension.experiments:gone": "abc"})


def test_current_code_is_current():
    from loupe.papers.ph_dimension import known_dimensions

    digests = provenance.code_digests(known_dimensions, ["loupe.topology.dimension"])
    assert provenance.is_current(digests)
    assert set(digests) == {
        "loupe.papers.ph_dimension.experiments:known_dimensions",
        "loupe.topology.dimension",
    }


def test_only_rooms_that_change_values_count():
    loaded = [
        "numpy",
        "loupe",
        "loupe.cli",
        "loupe.experiment.store",
        "loupe.topology.trees",
        "loupe.plotting.style",
    ]
    assert provenance.used_modules(loaded) == ["loupe.topology.trees"]


def test_cost_is_measured():
    cost = {}
    with provenance.measured(cost):
        sum(range(10**6))
    assert cost["seconds"] > 0
    assert cost["peak_memory_mb"] > 5


def test_commit_outside_a_checkout_is_unknown(tmp_path):
    assert provenance.commit(tmp_path) == "unknown"
