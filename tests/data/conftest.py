"""Shared by the tests of loupe.data: an empty cache, the mirror if there is one, and a small web server."""

import http.server
import os
import threading
from pathlib import Path

import pytest
from small_sets import enter, small_file

from loupe.data import places
from loupe.data.places import _seen


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """An empty cache, no box, no mirror, no base address; nothing of the user's own settings is left."""
    monkeypatch.setattr(places, "box_root", lambda: None)
    for name in ("LOUPE_DATA", "LOUPE_DATA_URL", "http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("LOUPE_CACHE", str(tmp_path / "cache"))
    _seen.clear()
    return tmp_path / "cache"


BOX = places.box_root
# Read at import: the fixture above hides the variable from the tests that need no mirror.
MIRROR = os.environ.get("LOUPE_DATA") and Path(os.environ["LOUPE_DATA"]).absolute()


@pytest.fixture
def box(cache, monkeypatch):
    """The folder ``data`` of this checkout, which the tests do without unless they ask."""
    monkeypatch.setattr(places, "box_root", BOX)
    return BOX()


@pytest.fixture
def mirror(cache, monkeypatch):
    """The real mirror folder; the test is skipped where there is none."""
    if not MIRROR:
        pytest.skip("LOUPE_DATA is not set: no mirror folder to read the real files from")
    monkeypatch.setenv("LOUPE_DATA", str(MIRROR))
    return MIRROR


@pytest.fixture
def tiny(monkeypatch):
    """A dataset of a dozen characters, entered into the catalog; gives its content."""
    content = b"a tiny text for tests"
    enter(monkeypatch, "tiny", (small_file("text/tiny.txt", content),))
    return content


@pytest.fixture
def server():
    """A web server on this machine: ``pages`` maps paths to bytes, ``cut`` breaks answers half way."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            body = pages.get(self.path)
            self.send_response(200 if body is not None else 404)
            self.send_header("Content-Length", str(len(body or b"")))
            self.end_headers()
            body = body or b""
            self.wfile.write(body[: len(body) // 2] if web.cut else body)
            self.close_connection = True

        def log_message(self, *_):
            pass

    pages = {}
    web = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    web.pages, web.cut = pages, False
    web.url = f"http://127.0.0.1:{web.server_port}"
    thread = threading.Thread(target=web.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    yield web
    web.shutdown()
    web.server_close()
    thread.join()
