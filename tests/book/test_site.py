"""The built site: no warning, no dead link, nothing from another host, and what a browser makes of it offline."""

import html.parser
import json
import os
import re
import shutil
import subprocess
import time
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
import yaml
from matplotlib.image import imread

from loupe.experiment.folders import project_root
from loupe.papers import PAPERS
from loupe.publishing.extras import with_buttons
from loupe.publishing.site import build_site

ROOT = project_root()
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
needs_browser = pytest.mark.skipif(
    CHROMIUM is None, reason="no Chromium on this machine: pages were not read in a browser"
)


@pytest.fixture(scope="session")
def site():
    """The folder of the built site."""
    return build_site().parent


class Page(html.parser.HTMLParser):
    """The links, anchors, loaded files and images of a page."""

    def __init__(self, path):
        super().__init__()
        self.links, self.ids, self.loaded, self.images = [], set(), [], []
        self.feed(path.read_text())

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        self.ids |= {attributes[name] for name in ("id", "name") if attributes.get(name)}
        if tag == "a" and attributes.get("href"):
            self.links.append(attributes["href"])
        if tag in ("script", "img", "iframe", "source") and attributes.get("src"):
            self.loaded.append(attributes["src"])
        if tag == "link" and "canonical" not in attributes.get("rel", ""):
            self.loaded.append(attributes.get("href", ""))
        if tag == "img":
            self.images.append(attributes)


@pytest.fixture(scope="session")
def pages(site):
    return {path: Page(path) for path in site.rglob("*.html") if "_static" not in path.parts}


def test_every_page_is_there(site):
    names = ["index", "book/index", "book/how_to_run", "book/training", "book/notation", "book/scoreboard", "book/status",
             "book/architecture", "book/api", "book/references", "search",
             *(f"notebooks/{p.slug}" for p in PAPERS.values() if not p.planned)]  # fmt: skip
    assert [name for name in names if not (site / f"{name}.html").exists()] == []


def test_no_dead_internal_link(site, pages):
    dead = []
    for path, page in pages.items():
        for link in page.links:
            parts = urlsplit(link)
            if parts.scheme or link.startswith("#!"):
                continue
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            known = pages.get(target)
            if not target.exists() or (parts.fragment and known and unquote(parts.fragment) not in known.ids):
                dead.append(f"{path.relative_to(site)}: {link}")
    assert dead == []


def test_pages_load_nothing_from_another_host(site, pages):
    foreign = [
        (path.name, file) for path, page in pages.items() for file in page.loaded if urlsplit(file).netloc
    ]
    assert foreign == []
    for style in site.rglob("*.css"):
        assert not re.search(r"url\(['\"]?(https?:)?//", style.read_text(errors="replace")), style


def test_every_file_that_a_page_loads_is_there(site, pages):
    lost = [
        (path.name, file)
        for path, page in pages.items()
        for file in page.loaded
        if not urlsplit(file).scheme and not (path.parent / unquote(urlsplit(file).path)).exists()
    ]
    assert lost == []


def test_every_picture_on_a_page_is_described(pages):
    silent = [
        (path.name, image.get("src"))
        for path, page in pages.items()
        for image in page.images
        if "alt" not in image
    ]
    assert silent == []


def test_one_search_box(site):
    assert (site / "book" / "index.html").read_text().count('class="bd-search') == 1


def test_pages_hold_no_stderr_progress_or_object(site):
    for path in (site / "notebooks").glob("*.html"):
        text = path.read_text()
        assert not re.search(r"&lt;[\w.]+ (object )?at 0x[0-9a-f]+&gt;", text)
        assert "it/s]" not in text
        assert 'class="output stderr' not in text


def test_the_scoreboard_has_every_judged_claim(site, published_claims):
    text = (site / "book" / "scoreboard.html").read_text()
    for _, ledger in published_claims:
        for claim in ledger["claims"]:
            assert f"#claim-{claim['id'].lower()}" in text


def test_the_landing_page_has_a_card_for_every_paper(site):
    text = (site / "book" / "index.html").read_text()
    assert text.count('class="loupe-tile') == len(PAPERS)
    assert text.count('class="loupe-tile planned"') == sum(paper.planned for paper in PAPERS.values())


def test_a_second_build_starts_at_once_and_the_tree_stays_clean(site):
    lines, begin, before = [], time.perf_counter(), _tree()
    build_site(report=lines.append)
    assert time.perf_counter() - begin < 10
    assert lines[0].startswith("nothing changed")
    assert _tree() == before
    assert "_build" not in before


def _tree():
    return subprocess.run(["git", "status", "--porcelain"], capture_output=True, text=True, cwd=ROOT).stdout


def browse(page, tmp_path, *flags):
    """Open a page in headless Chromium without a network; the DOM it ends with, its console, its requests."""
    net_log = tmp_path / "net.json"
    command = [
        CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--no-first-run",
        "--disable-component-update", "--disable-sync", "--disable-extensions", "--disable-default-apps",
        "--host-resolver-rules=MAP * ~NOTFOUND", f"--user-data-dir={tmp_path / 'profile'}", "--enable-logging=stderr",
        "--allow-file-access-from-files", f"--log-net-log={net_log}", "--virtual-time-budget=15000", *flags, "--dump-dom",
        page if "://" in str(page) else Path(page).as_uri(),
    ]  # fmt: skip
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=120, env=os.environ | {"HOME": str(tmp_path)}
    )
    # The theme and its buttons report what they do under their own names; everything else is a fault.
    reports = ('"[PST]: ', '"[togglebutton]: ')
    console = [
        line
        for line in done.stderr.splitlines()
        if ":CONSOLE" in line and not any(r in line for r in reports)
    ]
    requested = (
        set(re.findall(r'"url":"(https?://[^"]+)"', net_log.read_text())) if net_log.exists() else set()
    )
    return done.stdout, console, requested


CHAPTERS = [f"notebooks/{paper.slug}" for paper in PAPERS.values() if not paper.planned]
READ = [
    "book/index",
    "book/how_to_run",
    "book/training",
    "book/notation",
    "book/scoreboard",
    "book/status",
    "book/api",
    *CHAPTERS,
]


@needs_browser
@pytest.mark.parametrize("name", READ)
def test_a_browser_without_a_network_reads_the_page(site, tmp_path, name):
    dom, console, requested = browse(site / f"{name}.html", tmp_path)
    assert "</html>" in dom
    assert console == []
    assert {url for url in requested if "google" not in urlsplit(url).netloc} == set()
    if name.startswith("notebooks") or name == "book/notation":
        assert dom.count("<mjx-container") > 10
        assert "<mjx-merror" not in dom
        assert "\\widehat" not in re.sub(
            r"<(script|mjx-container|annotation).*?</\1>", "", dom, flags=re.DOTALL
        )


def probed(site, tmp_path, name, more=""):
    """What probe.js says of a page at two widths, light and dark; ``more`` is added to the page's text first."""
    page, wrapper = site / f"{name}.html", site / "probe.html"
    copy = page.with_name("probed.html")
    copy.write_text(page.read_text().replace("</article>", f"{more}</article>", 1))
    script = (ROOT / "tests" / "book" / "probe.js").read_text()
    wrapper.write_text(f'<body><script>const PAGE = "{copy.relative_to(site)}"; {script}</script></body>')
    try:
        dom, _, _ = browse(wrapper, tmp_path, "--virtual-time-budget=60000")
    finally:
        wrapper.unlink()
        copy.unlink()
    return json.loads(html.unescape(re.search(r'data-report="([^"]*)"', dom).group(1)))


@needs_browser
@pytest.mark.parametrize("name", READ)
def test_a_page_fits_its_width_and_can_be_read_light_and_dark(site, tmp_path, name):
    report = probed(site, tmp_path, name)
    assert len(report) == 4
    for setting, found in report.items():
        assert found == {"wide": [], "pale": []}, setting


@needs_browser
def test_what_is_too_wide_or_too_pale_is_seen(site, tmp_path):
    faults = '<p style="width: 900px">wide</p><p style="color: #777; background: #888">pale</p>'
    report = probed(site, tmp_path, "book/status", faults)
    assert all("pale" in found["pale"][0] for found in report.values())
    assert [bool(found["wide"]) for found in report.values()] == [True, False] * 2


def test_search_engines_and_the_search_page_find_the_methods(site):
    index = (site / "searchindex.js").read_text()
    for word in ("frechet", "elbo", "nfe", "egnn", "phdim"):
        assert f'"{word}":' in index
    for paper in PAPERS.values():
        if not paper.planned:
            text = html.unescape((site / "notebooks" / f"{paper.slug}.html").read_text())
            assert f'content="{paper.about}" name="description"' in text
            assert 'property="og:image"' in text
            assert f"@incollection{{loupe_{paper.slug}," in re.sub(r"<[^>]*>", "", text)
            assert f"{paper.short}: {paper.question}" in text  # in the side bar


@pytest.mark.parametrize(("url", "buttons"), [("", False), ("https://github.com/someone/loupe", True)])
def test_buttons_appear_with_the_address_of_the_repository(tmp_path, url, buttons):
    config = tmp_path / "_config.yml"
    config.write_text((ROOT / "_config.yml").read_text().replace('url: ""', f'url: "{url}"'))
    book = with_buttons(config)
    assert ("launch_buttons" in book) == buttons
    assert yaml.safe_load(config.read_text()) == book
    assert book["sphinx"]["config"]["html_theme_options"]["use_source_button"] == buttons


@needs_browser
@pytest.mark.parametrize("name", ["book/index", *CHAPTERS])
def test_dark_pages_have_no_white_areas(site, tmp_path, name):
    shot = tmp_path / "page.png"
    dark = ("--blink-settings=preferredColorScheme=0", "--window-size=1280,12000", f"--screenshot={shot}")
    browse(site / f"{name}.html", tmp_path, *dark)
    pixels = imread(shot)[..., :3].min(-1)
    blocks = pixels[: len(pixels) // 20 * 20].reshape(len(pixels) // 20, 20, -1, 20)
    assert (blocks.max((1, 3)) < 0.2).mean() > 0.5
    assert (blocks.min((1, 3)) > 0.75).sum() == 0


@needs_browser
def test_one_switch_shows_all_code(site, tmp_path):
    probe = """<script>addEventListener("load", () => setTimeout(() => {
      const button = document.querySelector(".loupe-code-switch"), code = document.querySelectorAll(".tag_hide-code > .cell_input");
      const shown = () => [...code].filter((one) => one.checkVisibility()).length;
      const said = [button.textContent, shown()];
      button.click();
      document.body.dataset.probe = JSON.stringify([...said, button.textContent, shown(), code.length]);
    }, 500));</script></body>"""
    copy = site / "notebooks" / "probe-of-the-switch.html"
    copy.write_text((site / "notebooks" / "egno.html").read_text().replace("</body>", probe))
    try:
        dom, _, _ = browse(copy, tmp_path)
    finally:
        copy.unlink()
    before, hidden, after, shown, cells = json.loads(
        html.unescape(re.search(r'data-probe="([^"]*)"', dom).group(1))
    )
    assert (before, hidden, after) == ("Show all code", 0, "Hide code")
    assert shown == cells > 5


@needs_browser
def test_the_slider_moves(site, tmp_path):
    """Push the slider to both ends in a copy of the page and read the counter."""
    page = site / "notebooks" / "ph_dimension.html"
    probe = """<script>addEventListener("load", () => setTimeout(() => {
      const slider = document.querySelector(".loupe-filtration input[type=range], input[type=range]");
      const read = (value) => { slider.value = value; slider.dispatchEvent(new Event("input", {bubbles: true}));
                                return document.querySelector(".loupe-filtration [aria-live]").textContent; };
      document.body.dataset.probe = JSON.stringify([read(slider.min), read(slider.max)]);
    }, 500));</script></body>"""
    copy = page.with_name("probe-of-the-slider.html")
    copy.write_text(page.read_text().replace("</body>", probe))
    try:
        dom, console, _ = browse(copy, tmp_path)
    finally:
        copy.unlink()
    assert console == []
    first, last = json.loads(html.unescape(re.search(r'data-probe="([^"]*)"', dom).group(1)))
    assert "60 components" in first
    assert re.search(r"\b1 component\b", last)


@needs_browser
def test_search_finds_a_word(site, tmp_path):
    dom, console, _ = browse((site / "search.html").as_uri() + "?q=spanning", tmp_path)
    assert console == []
    assert "ph_dimension" in dom
