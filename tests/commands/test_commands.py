"""The `loupe` command as a person meets it: every verb, in a fresh process."""

import json
import shutil
import subprocess
import sys

import pytest

from loupe import __version__
from loupe.experiment.claims import same_claims
from loupe.experiment.folders import project_root, stamped

SMOKE = ("ph_dimension", "--preset", "smoke")


@pytest.mark.parametrize(
    "verb",
    [
        "",
        "list",
        "compute",
        "run",
        "publish",
        "claims",
        "summary",
        "data",
        "book",
        "data fetch",
        "data verify",
    ],
)
def test_help(command, verb):
    done = command(*verb.split(), "--help")
    assert done.returncode == 0
    assert "Usage:" in done.stdout


def test_version(command):
    assert command("--version").stdout.strip() == f"loupe {__version__}"


@pytest.mark.parametrize("arguments", [("--help",), ("list",), ("data",)])
def test_light_verbs_load_nothing_heavy(arguments):
    """Answering in half a second means not importing these."""
    code = f"import sys; sys.argv = ['loupe', *{arguments!r}]\nfrom loupe.cli import main\n"
    code += "try: main()\nexcept SystemExit: pass\n"
    code += (
        "print('LOADED', sorted({'torch', 'numpy', 'scipy', 'matplotlib', 'papermill'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=project_root())
    assert "LOADED []" in done.stdout


def test_list_shows_papers_and_verdicts(command):
    text = command("list").stdout
    assert "ph_dimension" in text
    assert set("●◐✕○") & set(text.split("ph_dimension")[1].splitlines()[0])
    assert text.count("planned") >= 1
    assert "not tested here" in text


def test_compute_then_nothing_to_compute(command, tmp_path):
    arguments = ("compute", *SMOKE, "--experiment", "diffusion_processes")
    first = command(*arguments, LOUPE_RESULTS=str(tmp_path))
    assert first.returncode == 0, first.stderr
    assert "[2/2] ph_dimension/diffusion_processes" in first.stdout
    again = command(*arguments, LOUPE_RESULTS=str(tmp_path))
    assert "all 2 results are stored at smoke; nothing to compute" in again.stdout
    assert (tmp_path / "scratch/smoke/ph_dimension/claims.json").exists()


def test_run_with_an_override_says_where_things_went(command, tmp_path):
    done = command("run", *SMOKE, "--set", "repeats=2", LOUPE_RESULTS=str(tmp_path))
    assert done.returncode == 0, done.stderr
    lines = dict(
        line.split(": ", 1) for line in done.stdout.splitlines() if line.startswith(("executed", "ledger"))
    )
    notebook = json.loads((project_root() / lines["executed notebook"]).read_text())
    assert "repeats = 2" in json.dumps(notebook)
    assert json.loads((project_root() / lines["ledger"]).read_text())["slug"] == "ph_dimension"


def test_claims_as_json(command, published_claims):
    done = command("claims", "--json")
    assert done.returncode == 0, done.stderr
    fresh = {(one["slug"], one["preset"]): one for one in json.loads(done.stdout)}
    assert published_claims
    for path, stored in published_claims:
        one = fresh[stored["slug"], stored["preset"]]
        assert same_claims(one["claims"], stored["claims"]), f"{path} differs from what is judged today"


def test_ledgers_follow_from_the_stored_results(command):
    done = command("claims", "--check")
    assert done.returncode == 0, done.stderr
    assert "ledgers follow from the stored results" in done.stdout


def test_a_ledger_that_was_written_by_hand_is_found(command, tmp_path):
    shutil.copytree(project_root() / "results", tmp_path / "results")
    ledger = tmp_path / "results/cpu/ph_dimension/claims.json"
    content = json.loads(ledger.read_text())
    wrong = next(one for one in content["claims"] if one["verdict"] != "reproduced")
    wrong["verdict"] = "reproduced"
    for text, words in (
        (json.dumps(content).encode(), "is damaged"),
        (stamped(content), f"claim {wrong['id']} does"),
    ):
        ledger.write_bytes(text)
        done = command("claims", "--check", LOUPE_RESULTS=str(tmp_path / "results"))
        assert done.returncode == 1
        assert words in done.stderr
    sidecar = tmp_path / "results/cpu/ph_dimension/identities-s0.json"
    sidecar.write_bytes(sidecar.read_bytes() + b" ")  # the same result, and not the file that was judged
    assert "judge again" in command("list", LOUPE_RESULTS=str(tmp_path / "results")).stdout


def test_summary_shows_costs_and_verdicts(command):
    head, *rows = command("summary", "ph_dimension").stdout.splitlines()
    assert head.split()[:5] == ["chapter", "experiment", "units", "seconds", "CPU-seconds"]
    assert {row.split()[1] for row in rows[:-1]} >= {"known_dimensions", "training_path"}
    assert "all of it" in rows[-1]
    assert "●" in rows[-1]


def test_a_job_of_a_workflow_marks_its_unit_and_judges_nothing(command, tmp_path):
    unit = ("compute", *SMOKE, "--experiment", "known_dimensions", "--seed", "0")
    done = command(*unit, "--mark", tmp_path / "mark", LOUPE_RESULTS=str(tmp_path))
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("ph_dimension/known_dimensions seed 0 at smoke: ")
    assert len(done.stdout.splitlines()) == 1
    assert (tmp_path / "mark").exists()
    assert not (tmp_path / "scratch/smoke/ph_dimension/claims.json").exists()


def test_an_exact_claim_that_fails_is_exit_status_1(command, tmp_path):
    shutil.copytree(project_root() / "results" / "cpu", tmp_path / "cpu")
    sidecar = tmp_path / "cpu" / "ph_dimension" / "identities-s0.json"
    content = json.loads(sidecar.read_text())
    content["numbers"]["embedded_dimension"] += 0.1
    sidecar.write_bytes(stamped(content))
    done = command("claims", LOUPE_RESULTS=str(tmp_path))
    assert done.returncode == 1
    assert "exact claims that do not hold: PH4 at cpu" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("compute", "ph_dimensions"), "no paper is called 'ph_dimensions': did you mean 'ph_dimension'?"),
        (("compute", "geotdm"), "is planned and not written yet"),
        (("compute", "ph_dimension", "--preset", "cup"), "no preset is called 'cup'"),
        (("compute", *SMOKE, "--experiment", "nope"), "no experiment 'nope'"),
        (("compute", *SMOKE, "--set", "repeats=many"), "repeats='many' is refused"),
        (("compute", *SMOKE, "--set", "repeats"), "is not KEY=VALUE"),
        (("compute", *SMOKE, "--jobs", "0"), "--jobs 0 is too small"),
        (
            ("run", *SMOKE, "--set", "repeets=3"),
            "'repeets' is not a setting of this chapter; the settings are: seeds",
        ),
        (("claims", "--preset", "cup"), "no preset is called 'cup'"),
        (("summary", "--preset", "cup"), "no preset is called 'cup'"),
        (("compute", *SMOKE, "--seed", "0", "--mark", "x"), "--mark is for one unit and this is"),
        (("data", "fetch", "minst"), "did you mean mnist"),
    ],
)
def test_a_mistake_is_one_sentence_and_not_status_0(command, arguments, words):
    done = command(*arguments)
    assert done.returncode == 1
    assert words in done.stderr
    assert "Traceback" not in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


def test_data_without_a_network_is_one_sentence(command, tmp_path):
    offline = {
        "LOUPE_DATA": "",
        "LOUPE_CACHE": str(tmp_path),
        "HTTPS_PROXY": "http://127.0.0.1:9",
        "https_proxy": "http://127.0.0.1:9",
    }
    done = command("data", "fetch", "cifar10", **offline)
    assert done.returncode == 1
    assert "LOUPE_DATA" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


def test_an_experiment_without_its_data_is_one_sentence(command, tmp_path):
    missing = {"LOUPE_DATA": "", "LOUPE_CACHE": str(tmp_path), "LOUPE_RESULTS": str(tmp_path)}
    done = command(
        "compute",
        *SMOKE,
        "--experiment",
        "training_path",
        "--seed",
        "0",
        "--set",
        'path_case="cifar10 alexnet"',
        **missing,
    )
    assert done.returncode == 1
    assert "loupe data fetch cifar10" in done.stderr
    assert "Traceback" not in done.stderr


def test_results_of_other_code_are_named(command, tmp_path):
    shutil.copytree(project_root() / "results" / "cpu", tmp_path / "cpu")
    sidecar = tmp_path / "cpu" / "ph_dimension" / "known_dimensions-s2.json"
    content = json.loads(sidecar.read_text())
    content["provenance"]["code"]["loupe.topology.trees"] = "0" * 16  # one more than are so already
    sidecar.write_bytes(stamped(content))
    for verb in (("compute", "ph_dimension", "--preset", "cpu"), ("claims",)):
        done = command(*verb, LOUPE_RESULTS=str(tmp_path))
        assert done.returncode == 0
        assert "1 results were made by other code than today's (known_dimensions seed 2)" in done.stderr


def test_a_folder_that_cannot_be_written_is_found_before_computing(command, tmp_path):
    (tmp_path / "scratch").write_text("a file where a folder should be")
    done = command("compute", *SMOKE, "--experiment", "known_dimensions", LOUPE_RESULTS=str(tmp_path))
    assert done.returncode == 1
    assert "could not write" in done.stderr
    assert "[1/" not in done.stdout


def test_a_negative_seed_is_refused(command):
    done = command("compute", *SMOKE, "--seed", "-1")
    assert done.returncode == 1
    assert "seed -1 is refused" in done.stderr
