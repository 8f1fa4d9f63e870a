"""python -m verification: exit codes, output forms, several files, refusals."""

import dataclasses
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from small_minima import solved
from zoo import claimed, minimum

import verification
from ocp import files
from verification import api
from verification.__main__ import main
from verification.checks import CHECKS, REGISTRY
from verification.report import InconclusiveError, VerificationError

ROOT = Path(__file__).parents[2]
QUICK = ("statement", "first_order", "second_order")


@pytest.fixture
def good(tmp_path):
    path = tmp_path / "good.safetensors"
    files.save(path, minimum())
    return str(path)


def test_help_names_every_check_and_loads_nothing_heavy():
    code = (
        "import sys, verification.__main__ as m; m.parser().format_help();"
        " print('numpy' in sys.modules, 'scipy' in sys.modules, 'rich' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout.split() == ["False"] * 3
    text = verification.__main__.parser().format_help()
    assert all(name in text for name in CHECKS)


def test_json_and_plain_lines_say_the_same(good, tmp_path, capsys):
    out = tmp_path / "report.json"
    assert main([good, "--json", str(out), "--only", *QUICK]) == 0
    text = capsys.readouterr().out
    report = json.loads(out.read_text())
    assert report["format"] == 1 and report["files"] == [good] and report["exit_code"] == 0
    assert {"python", "numpy", "scipy"} <= set(report["versions"])
    assert text.splitlines()[-1].startswith("PASSED: 8 passed, 0 failed, 0 inconclusive")
    for entry in report["checks"]:
        assert entry["kind"] in ("claim", "finding")
        assert any(
            line.startswith(entry["verdict"]) and entry["name"] in line
            for line in text.splitlines()
        )


@pytest.mark.parametrize("order", ["files first", "files last"])
def test_only_takes_names_before_and_after_the_file(good, order, capsys):
    arguments = [good, "--only", *QUICK] if order == "files first" else ["--only", *QUICK, good]
    assert main(arguments) == 0
    names = {line.split()[1].partition(".")[0] for line in capsys.readouterr().out.splitlines()[:8]}
    assert names <= set(QUICK)


def test_only_a_finding_is_no_claim(good):
    assert main([good, "--only", "depth"]) == 3
    assert main([good, "--only", "depth", "geometry"]) == 0


def test_the_tolerance_is_obeyed(tmp_path):
    problem, u = solved()
    u = files.Controls(A=u.A + 1e-6, b=u.b)
    path = tmp_path / "a.safetensors"
    files.save(path, files.TrainingFile(problem=problem, controls=u))
    assert main([str(path), "--only", *QUICK]) == 1
    assert main([str(path), "--only", *QUICK, "--tol", "1e-4"]) == 0


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["missing.safetensors"], "missing.safetensors: No such file"),
        ([], "no FILE"),
        (["GOOD", "--tol", "0"], "--tol"),
        (["GOOD", "--tol", "nan"], "--tol"),
        (["GOOD", "--only", "firstorder"], "unknown check 'firstorder'"),
        (["GOOD", "--data", "GOOD"], "no file keeps its inputs elsewhere"),
        (["GOOD", "--json", "no/such/folder/x.json"], "there is no folder"),
    ],
)
def test_unusable_input_gets_one_sentence_and_exit_code_2(good, arguments, says, capsys):
    assert main([good if a == "GOOD" else a for a in arguments]) == 2
    error = capsys.readouterr().err
    assert says in error and error.count("\n") == 1


def test_certify_without_its_extra_is_refused(good, monkeypatch, capsys):
    monkeypatch.setattr(api.importlib.util, "find_spec", lambda name: None)
    assert main([good, "--certify"]) == 2
    assert "python-flint" in capsys.readouterr().err


def test_ctrl_c_exits_130(good, monkeypatch):
    def interrupt(*args, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr(api, "verify", interrupt)
    assert main([good]) == 130


def test_latex(good, capsys):
    assert main([good, "--latex", "-", "--only", "first_order"]) == 0
    text = capsys.readouterr().out
    assert text.startswith(r"\begin{tabular}") and r"first\_order.gradient" in text
    assert text.count(r"\\") == 6 and "% PASSED" in text


def test_the_table_of_a_terminal(good, monkeypatch, capsys):
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "120")
    assert main([good, "--only", *QUICK]) == 0
    text = capsys.readouterr().out
    assert "outcome" in text and "PASSED: 8 passed" in text


def test_several_files_are_told_apart(good, tmp_path, capsys):
    bad = tmp_path / "bad.safetensors"
    problem, u = solved()
    files.save(bad, claimed(problem, files.Controls(A=u.A + 0.1, b=u.b)))
    assert main([good, str(bad), "--only", "first_order"]) == 1
    failed = [x for x in capsys.readouterr().out.splitlines() if x.startswith("failed")]
    assert len(failed) == 1 and str(bad) in failed[0]


def test_inputs_kept_elsewhere(tmp_path, capsys):
    content = minimum()
    np.save(tmp_path / "inputs.npy", content.problem.inputs)
    digest = files.data_files.sha256_of(tmp_path / "inputs.npy")
    reference = {"name": "inputs.npy", "sha256": digest, "rows": content.problem.n_samples}
    path = tmp_path / "by_reference.safetensors"
    files.save(path, dataclasses.replace(content, data=reference))
    assert main([str(path), "--only", *QUICK]) == 2
    assert "--data" in capsys.readouterr().err
    assert main([str(path), "--only", *QUICK, "--data", str(tmp_path / "inputs.npy")]) == 0


def test_the_api_and_its_twins(good, tmp_path):
    report = verification.verify(good, only=QUICK)
    assert report.require() is report
    for name in (*QUICK, "geometry", "depth", "dissipativity"):
        getattr(verification, f"assert_{name}")(good)
    bad = tmp_path / "bad.safetensors"
    problem, u = solved()
    files.save(bad, claimed(problem, files.Controls(A=u.A + 0.1, b=u.b)))
    verification.assert_statement(bad)
    with pytest.raises(AssertionError, match=r"first_order\.gradient"):
        verification.assert_first_order(bad)
    with pytest.raises(VerificationError):
        verification.assert_verified(bad)
    with pytest.raises(AttributeError):
        verification.assert_nothing  # noqa: B018


def test_twins_tell_open_from_failed(good, tmp_path):
    bad, flat = tmp_path / "bad.safetensors", tmp_path / "flat.safetensors"
    problem, u = solved()
    files.save(bad, claimed(problem, files.Controls(A=u.A + 0.1, b=u.b)))
    files.save(flat, claimed(*solved(r=0.0)))
    with pytest.raises(VerificationError) as failed:
        verification.assert_first_order(bad)
    assert not isinstance(failed.value, InconclusiveError)
    with pytest.raises(InconclusiveError, match="0 passed"):
        verification.assert_second_order(bad)  # not applicable: nothing was evaluated
    with pytest.raises(InconclusiveError, match="error band"):
        verification.assert_first_order(flat)
    with pytest.raises(InconclusiveError, match="three or more depths"):
        verification.assert_turnpike(good)
    with pytest.raises(InconclusiveError):
        verification.verify(flat).require()


def test_twins_say_what_they_assert():
    for row in REGISTRY:
        text = getattr(verification, f"assert_{row.name}").__doc__
        assert ("asserts no property of the network" in text) is not row.claims
        assert row.asks in text
    claiming = {row.name for row in REGISTRY if row.claims}
    assert claiming == {
        *("statement", "first_order", "second_order", "geometry", "turnpike", "certificate")
    }


def test_a_hash_says_nothing_about_the_network(tmp_path, capsys):
    path = tmp_path / "x.safetensors"
    files.save(path, dataclasses.replace(minimum(), origin={}))
    assert main([str(path), "--only", "statement"]) == 3
    assert "no claim about the network was evaluated" in capsys.readouterr().out
    with pytest.raises(InconclusiveError):
        verification.assert_statement(path)
    files.save(path, minimum())
    assert main([str(path), "--only", "statement"]) == 0


def test_unknown_checks_and_no_files_are_refused(good):
    with pytest.raises(ValueError, match="unknown check"):
        verification.verify(good, only=["x"])
    with pytest.raises(ValueError, match="no file"):
        verification.verify()
    with pytest.raises(ValueError, match="tolerance"):
        verification.verify(good, tolerance=-1.0)
