"""Pages with interactive pictures: what their HTML says, and what a browser without a network makes of them."""

import base64
import html
import json
import os
import re
import select
import shutil
import subprocess
import sys
import time
import zlib
from collections import Counter

import matplotlib as mpl
import numpy as np
import pytest

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
needs_browser = pytest.mark.skipif(
    CHROMIUM is None, reason="no Chromium on this machine: the script was not run in a browser"
)

OPTIONS = [
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--no-first-run",
    "--disable-component-update", "--disable-sync", "--disable-extensions", "--disable-default-apps",
    "--host-resolver-rules=MAP * ~NOTFOUND",
]  # fmt: skip


def data_of(text):
    """What the page holds for the script."""
    return json.loads(re.search(r'<script type="application/json"[^>]*>(.*?)</script>', text).group(1))


def strips_of(text):
    """All frames of all choices that the page holds: for each choice what stands above, then picture, line and words."""
    return json.loads(zlib.decompress(base64.b64decode(data_of(text)["strips"])))


def still_of(text):
    """All before the first script."""
    return text.split("<script")[0]


def assert_well_formed(text, ids):
    """As many elements are closed as are opened, and there are so many different ids."""
    bare = re.sub(r"<(script|style).*?</\1>", "", text, flags=re.S)
    opened = Counter(re.findall(r"<([a-z]+)\b(?:[^>]*[^/>])?>", bare))
    closed = Counter(re.findall(r"</([a-z]+)>", bare))
    assert {tag: count for tag, count in opened.items() if tag not in ("input", "img")} == closed
    found = re.findall(r' id="([^"]*)"', bare)
    assert len(found) == len(set(found)) == ids


def contrast(one, other="#fff"):
    """Contrast ratio of two colors by the formula of WCAG 2, from 1 to 21."""
    channels = np.array([mpl.colors.to_rgb(color) for color in (one, other)])
    linear = np.where(channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)
    low, high = sorted(linear @ [0.2126, 0.7152, 0.0722])
    return (high + 0.05) / (low + 0.05)


def written(folder, body):
    """The address of a page with this body."""
    page = folder / "page.html"
    page.write_text(f'<!doctype html><meta charset="utf-8"><body>{body}</body>', "utf-8")
    return page.as_uri()


CLOCK = """
// A browser without a screen draws no frames while its clock is turned forward.
window.requestAnimationFrame = (draw) => setTimeout(() => draw(performance.now()), 16);
window.cancelAnimationFrame = clearTimeout;
const report = (seen) => { document.body.dataset.probe = JSON.stringify(seen); };
"""


def probed(folder, body, probe, *options):
    """What a script at the end of the page reports, and the lines of the console; the clock is turned forward."""
    address = written(folder, f"{body}<script>{CLOCK}{probe}</script>")
    command = [
        CHROMIUM, *OPTIONS, f"--user-data-dir={folder / 'profile'}", "--enable-logging=stderr",
        "--virtual-time-budget=60000", *options, "--dump-dom", address,
    ]  # fmt: skip
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=120, env=os.environ | {"HOME": str(folder)}
    )
    console = [line for line in done.stderr.splitlines() if ":CONSOLE" in line]
    found = re.search(r'data-probe="([^"]*)"', done.stdout)
    assert found, console or done.stderr
    return json.loads(html.unescape(found.group(1))), console


THROUGH_PIPES = """
import fcntl, os, sys
for place, pipe in [(place, fcntl.fcntl(int(sys.argv[place - 2]), fcntl.F_DUPFD, 10)) for place in (3, 4)]:
    os.dup2(pipe, place)
os.execvp(sys.argv[3], sys.argv[3:])
"""
"""Starts a browser that hears at the third and says at the fourth of its files."""

FAULTS = "<script>window.faults = []; window.onerror = (fault) => { faults.push(String(fault)); };</script>"
READY = """document.readyState === 'complete' && !!document.querySelector('.loupe-widget') &&
  [...document.querySelectorAll('.loupe-widget')].every((root) => root.dataset.live === 'ready')"""


class Browser:
    """A browser with a page, its keys and its mouse: messages go through two pipes, no port is opened.

    ``one`` and what follows from it look inside the first picture.
    """

    def __init__(self, folder, body, *options):
        self.count, self.buffer, self.session = 0, b"", None
        hears, self.tell = os.pipe()
        self.listen, says = os.pipe()
        command = [
            CHROMIUM, *OPTIONS, *options, f"--user-data-dir={folder / 'profile'}", "--remote-debugging-pipe",
            "--window-size=1000,900",
        ]  # fmt: skip
        address = written(folder, FAULTS + body)
        self.process = subprocess.Popen(
            [sys.executable, "-c", THROUGH_PIPES, str(hears), str(says), *command, address],
            pass_fds=(hears, says), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            env=os.environ | {"HOME": str(folder)},
        )  # fmt: skip
        os.close(hears)
        os.close(says)
        until = time.monotonic() + 60
        while not (pages := [t for t in self.targets() if t["type"] == "page" and "page.html" in t["url"]]):
            assert time.monotonic() < until, "no page"
        self.session = self.ask("Target.attachToTarget", targetId=pages[0]["targetId"], flatten=True)[
            "sessionId"
        ]
        self.wait(READY)

    def targets(self):
        return self.ask("Target.getTargets")["targetInfos"]

    def ask(self, method, **params):
        self.count += 1
        message = {"id": self.count, "method": method, "params": params}
        if self.session:
            message["sessionId"] = self.session
        os.write(self.tell, json.dumps(message).encode() + b"\0")
        while True:
            while b"\0" not in self.buffer:
                ready, _, _ = select.select([self.listen], [], [], 60)
                assert ready, f"no answer to {method}"
                part = os.read(self.listen, 65536)
                assert part, "the browser has ended"
                self.buffer += part
            answer, self.buffer = self.buffer.split(b"\0", 1)
            answer = json.loads(answer)
            if answer.get("id") == self.count:
                return answer.get("result", {})  # none where the page has just gone

    def value(self, expression):
        answer = self.ask("Runtime.evaluate", expression=expression, returnByValue=True)
        return answer.get("result", {}).get("value")

    def wait(self, expression):
        until = time.monotonic() + 60
        while not self.value(expression):
            assert time.monotonic() < until, f"never: {expression}"
            time.sleep(0.02)

    def fresh(self):
        """The page as it was at first."""
        self.value("window.stale = true, location.reload()")
        self.wait(f"!window.stale && {READY}")
        return self

    def one(self, selector, rest=""):
        return self.value(f"document.querySelector({json.dumps('.loupe-widget ' + selector)}){rest}")

    def text(self, selector):
        return self.one(selector, ".textContent")

    def press(self, key, code=0, text="", modifiers=0):
        for kind in ("keyDown", "keyUp"):
            self.ask(
                "Input.dispatchKeyEvent", type=kind, key=key, code=key, windowsVirtualKeyCode=code,
                modifiers=modifiers, **({"text": text} if text and kind == "keyDown" else {}),
            )  # fmt: skip

    def close(self):
        os.close(self.tell)
        os.close(self.listen)
        self.process.terminate()
        self.process.wait(30)
