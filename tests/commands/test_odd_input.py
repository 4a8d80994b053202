"""What wrappers, terminals and notebooks hand on: understood, or refused in one sentence of bounded length."""

import os
import signal
import subprocess
import sys
import threading
import time

import nbformat
import pytest

from loupe.errors import LoupeError
from loupe.experiment.folders import project_root
from loupe.papers import open_chapter
from loupe.plotting.display import without_html
from loupe.publishing import notebooks, site

ROOT = project_root()
SMOKE = ("ph_dimension", "--preset", "smoke")


@pytest.mark.parametrize("value", ["false", "False", "FALSE", False])
def test_recompute_is_understood_in_the_words_of_papermill(value):
    assert open_chapter("ph_dimension", recompute=value).recompute is False
    assert open_chapter("ph_dimension", recompute="true").recompute is True


@pytest.mark.parametrize("value", ["no", "off", "0", 0, 1, None, "", [], "yes " * 500])
def test_any_other_recompute_is_refused(value):
    with pytest.raises(LoupeError, match=r"recompute=.* is refused: give True or False") as caught:
        open_chapter("ph_dimension", recompute=value)
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"overrides": "repeats=5"}, r"overrides=\['repeats=5'\] is refused"),
        ({"overrides": "[" * 9000}, "is refused"),
        ({"overrides": 3}, "overrides=3 is refused"),
        ({"overrides": {"repeats": float("nan")}}, "refused|plain numbers"),
        ({"overrides": {"seeds": list(range(15_000))}}, "characters: 50000 are allowed"),
        ({"seed": "0"}, "seed '0' is refused"),
        ({"seed": True}, "seed True is refused"),
        ({"seed": 1.0}, "seed 1.0 is refused"),
        ({"preset": ["smoke"]}, "no preset is called"),
        ({"preset": None}, "no preset is called None"),
    ],
)
def test_other_parameters_of_the_wrong_kind(arguments, words):
    with pytest.raises(LoupeError, match=words) as caught:
        open_chapter("ph_dimension", **arguments)
    assert len(str(caught.value)) < 1000
    assert open_chapter("ph_dimension", overrides='{"repeats": 2}').config.repeats == 2


def test_long_values_are_quoted_short(command):
    for value in ("x=" + "[" * 5000, "x=" + "[" * 5000 + "]" * 5000, "repeats=" + "9" * 5000, "y" * 5000):
        done = command("compute", *SMOKE, "--set", value)
        assert done.returncode == 1
        assert "Traceback" not in done.stderr
        assert len(done.stderr) < 1500


def test_a_terminal_that_knows_only_ascii(command):
    plain = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "PYTHONIOENCODING": "ascii"}
    done = command("list", **plain)
    assert done.returncode == 0, done.stderr
    assert "sedd" in done.stdout


def test_output_that_cannot_be_written_is_one_sentence():
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "loupe", "list"], stdout=full, stderr=subprocess.PIPE, cwd=ROOT
        )
    assert done.returncode == 1
    assert done.stderr.decode().count("\n") == 1
    assert "No space left" in done.stderr.decode()


def test_a_working_folder_that_is_gone_is_one_sentence(tmp_path):
    gone = f"cd {tmp_path} && mkdir gone && cd gone && rmdir ../gone && exec {sys.executable} -m loupe list"
    done = subprocess.run(
        ["bash", "-c", gone], capture_output=True, text=True, env=os.environ | {"LOUPE_RESULTS": "x"}
    )
    assert done.returncode == 1
    assert "loupe: the working folder is gone" in done.stderr
    assert "Traceback" not in done.stderr


def test_what_is_typed_after_make_is_no_command(tmp_path):
    trap = tmp_path / "trap"
    for name in ("CHAPTERS", "SEEDS", "PRESET", "JOBS", "PROFILE", "PORT", "PYTHON"):
        for value in (
            f'x"; touch {trap}; "',
            f"$(shell touch {trap})",
            f"`touch {trap}`",
            f"$$(touch {trap})",
        ):
            done = subprocess.run(
                ["make", "reproduce", f"{name}={value}", "SNAKEMAKE=true"], cwd=tmp_path, capture_output=True,
                env=os.environ | {"MAKEFILES": ""},
            )  # fmt: skip
            assert done.returncode  # there is no Makefile here
    (tmp_path / "Makefile").write_text((ROOT / "Makefile").read_text())
    (tmp_path / "requirements.lock").write_text("")
    (tmp_path / "pyproject.toml").write_text("")
    snakemake = tmp_path / ".venv/bin/snakemake"
    snakemake.parent.mkdir(parents=True)
    snakemake.write_text("#!/bin/sh\nexit 0\n")
    snakemake.chmod(0o755)
    (tmp_path / ".venv/.ready").write_text("")
    for name in ("CHAPTERS", "SEEDS", "PRESET", "JOBS", "PROFILE", "PORT", "PYTHON"):
        for value in (
            f'x"; touch {trap}; "',
            f"$(shell touch {trap})",
            f"`touch {trap}`",
            f"$$(touch {trap})",
        ):
            subprocess.run(["make", "reproduce", f"{name}={value}"], cwd=tmp_path, capture_output=True)
            assert not trap.exists(), (name, value)


def test_captions_hold_no_tags():
    assert (
        without_html('n < 3, $a<b$ & <script>x</script> "q"')
        == 'n &lt; 3, $a<b$ &amp; &lt;script>x&lt;/script> "q"'
    )


def one_cell(path, source):
    """A notebook of one cell."""
    cell = nbformat.v4.new_code_cell(source, id="a")
    path.write_text(nbformat.writes(nbformat.v4.new_notebook(cells=[cell])))
    return path


def test_a_kernel_that_is_killed_is_one_sentence(tmp_path):
    source = one_cell(tmp_path / "a.ipynb", "import os, signal\nos.kill(os.getpid(), signal.SIGKILL)")
    with pytest.raises(
        LoupeError, match=r"a.ipynb could not be run to its end .* its kernel was ended"
    ) as caught:
        notebooks.execute(source, tmp_path / "out.ipynb")
    assert "\n" not in str(caught.value)


def test_another_kernel_of_the_same_name_is_not_used(tmp_path, monkeypatch):
    other = tmp_path / "kernels/python3"
    other.mkdir(parents=True)
    (other / "kernel.json").write_text('{"argv": ["false"], "display_name": "x", "language": "python"}')
    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path))
    source = one_cell(tmp_path / "a.ipynb", "import sys\nprint(sys.executable)")
    notebooks.execute(source, tmp_path / "out.ipynb")
    (cell,) = nbformat.read(tmp_path / "out.ipynb", 4).cells
    assert cell.outputs[0].text.strip() == sys.executable


def test_an_interrupted_command_says_so(tmp_path):
    process = subprocess.Popen(
        [sys.executable, "-m", "loupe", "compute", *SMOKE, "--jobs", "1", "--recompute", "--experiment", "gap_grid"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT,
        env=os.environ | {"LOUPE_RESULTS": str(tmp_path)},
    )  # fmt: skip
    timer = threading.Timer(4, process.send_signal, [signal.SIGINT])
    timer.start()
    begin = time.monotonic()
    _, errors = process.communicate(timeout=120)
    timer.join()
    if time.monotonic() - begin > 4:
        assert process.returncode
        assert "stopped" in errors
    assert "Traceback" not in errors


def test_pages_that_are_gone_leave_the_site(tmp_path, monkeypatch):
    """The renderer is replaced: what it writes now is all that the site holds afterwards."""
    build = tmp_path / "_build"
    (build / "html").mkdir(parents=True)
    (build / "html/gone.html").write_text("old")
    (build / "html/searchindex.js").write_text("gone")

    def render(source, folder):
        fresh = folder / "fresh/_build/html"
        fresh.mkdir(parents=True)
        for name in ("index.html", "searchindex.js"):
            (fresh / name).write_text("new")
        return fresh

    for name, stand_in in {"_render": render, "_assemble": lambda root, source, chapters: source,
                           "_site_inputs": lambda root: []}.items():  # fmt: skip
        monkeypatch.setattr(site, name, stand_in)
    (tmp_path / "notebooks").mkdir()
    site._build(tmp_path, build, lambda line: None)
    assert sorted(path.name for path in (build / "html").iterdir()) == ["index.html", "searchindex.js"]
    assert (build / "html/searchindex.js").read_text() == "new"
