"""The scoreboard: where each verdict comes from, and whether it changed since the last release."""

import re
import types

import pytest

from loupe import __version__
from loupe.experiment.claims import Claim, Measure, at_most
from loupe.experiment.folders import MissingResultError, project_root, read_history
from loupe.experiment.results import Runs
from loupe.experiment.store import Store
from loupe.papers import PAPERS, load_room
from loupe.publishing import pages
from loupe.publishing.pages import Opened


def made(day, hardware):
    return types.SimpleNamespace(provenance={"finished": f"{day}T12:00:00+00:00", "hardware": hardware})


STORED = {
    "walk": Runs((made("2026-01-02", "a laptop"), made("2026-01-05", "a server"))),
    "ruler": Runs((made("2026-01-09", "a phone"),)),
}


def test_a_verdict_comes_from_the_results_that_its_judge_opens():
    opened = Opened(STORED)
    assert opened.origin() == ""
    assert opened["walk"] is STORED["walk"]
    assert opened["walk"] is STORED["walk"]
    assert opened.origin() == "2026-01-05 · a laptop; a server"
    assert opened["ruler"] is STORED["ruler"]
    assert opened.origin() == "2026-01-09 · a laptop; a server; a phone"


def test_what_is_missing_is_not_opened():
    class Empty(dict):
        def __missing__(self, name):
            raise MissingResultError(name)

    opened = Opened(Empty())
    with pytest.raises(MissingResultError):
        opened["walk"]
    assert opened.origin() == ""


@pytest.mark.parametrize(
    ("release", "said"),
    [(None, ""), ("reproduced", ""), ("inconclusive", f"changed since {__version__}: was inconclusive")],
)
def test_a_score_says_what_the_verdict_was(release, said):
    shown = pages._score("reproduced", "2026-01-05 · a <laptop>", release, "x.html#claim-t1")
    assert "2026-01-05 · a &lt;laptop&gt;" in shown
    assert ("changed since" in shown) == bool(said)
    assert said in shown


def test_a_score_without_results_has_no_origin():
    assert (
        pages._score("not tested here", "", None, "")
        == '<span class="verdict not-tested"><span class="mark" aria-hidden="true">○</span> not tested here</span>'
    )


def test_every_judged_claim_has_its_day_and_its_verdict_at_the_release(monkeypatch):
    """On a chapter that is stored: a claim with measures rests on results, and has their day and machine."""
    reader = Claim("T1", "Reads one.", "", "", "exact", "", lambda results: [
        Measure("paths", len(results["thresholding"].first["path_steps"]), at_most(1e9))
    ], ("cpu",))  # fmt: skip
    idle = Claim("T2", "Reads none.", "", "", "reported", "")
    room = types.SimpleNamespace(**vars(load_room("reflected_diffusion")) | {"CLAIMS": (reader, idle)})
    monkeypatch.setattr(pages, "at_release", lambda entries, *key: "partly" if key[2] == "T1" else None)
    head, first, second = pages._scores(room, ["cpu"], Store.default()).split("<tr>")[1:]
    assert head.count("<th>") == 3
    assert re.search(r"reproduced</a>.*20\d\d-\d\d-\d\d · .*changed since .*: was partly", first)
    assert 'href="../notebooks/reflected_diffusion.html#claim-t1"' in first
    assert "not tested here</a></td>" in second


def test_the_history_of_the_book_knows_every_published_chapter():
    slugs = {entry["slug"] for entry in read_history(Store.default())}
    assert slugs == {slug for slug, paper in PAPERS.items() if not paper.planned}


def test_the_page_states_the_rule():
    page = " ".join((project_root() / "book" / "scoreboard.md").read_text().split())
    for words in ("whole 95 % interval", "three independent runs", "control", "whole interval of one part"):
        assert words in page
