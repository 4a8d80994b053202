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


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("FACTOR, OTHER = 2.0, 1.0", "FACTOR, OTHER = 3.0, 1.0"),
        ("FACTOR = 2.0\nFACTOR += 1", "FACTOR = 2.0\nFACTOR += 2"),
        (
            "FACTOR = 2.0\nif math.pi > 3:\n    FACTOR = 1.0",
            "FACTOR = 2.0\nif math.pi > 3:\n    FACTOR = 4.0",
        ),
    ],
)
def test_constants_set_in_other_ways_are_seen(digest, before, after):
    one, other = (SOURCE.replace("FACTOR = 2.0", text) for text in (before, after))
    assert digest(one) != digest(other)


def test_an_edit_during_a_unit_does_not_vouch_for_itself(tmp_path, monkeypatch):
    from loupe.topology import trees

    monkeypatch.setattr(provenance, "_FROZEN", {})
    provenance.freeze_sources()
    before = provenance.module_digest("loupe.topology.trees")
    edited = provenance._parse(trees.__file__, 0)
    monkeypatch.setattr(provenance, "_parse", lambda file, modified: edited.body.clear() or edited)
    assert provenance.module_digest("loupe.topology.trees") == before


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
    bystanders = ["numpy", "loupe", "loupe.cli", "loupe.experiment.store", "loupe.topology", "loupe.plotting.style",
                  "loupe.data.catalog_text", "loupe.papers.x.claims"]  # fmt: skip
    used = ["loupe.data.images", "loupe.papers.x.networks", "loupe.topology.trees"]
    assert provenance.used_modules([*bystanders, *used]) == used


def test_cost_is_measured():
    cost = {}
    with provenance.measured(cost):
        sum(range(10**6))
    assert cost["seconds"] > 0
    assert cost["peak_memory_mb"] > 5


def test_commit_outside_a_checkout_is_unknown(tmp_path):
    assert provenance.commit(tmp_path) == "unknown"
