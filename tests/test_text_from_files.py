"""Text that a file brings along reaches terminal, LaTeX and JSON escaped, and costs linear time."""

import json
import os
import struct

import numpy as np
import pytest
import safetensors.numpy
from problems import spirals

from nn_baseline.__main__ import main as baseline
from ocp import description, files, polish
from ocp.__main__ import main as solve
from ocp.command_line import figures
from ocp.container import header
from ocp.controls import random_start
from verification import Verdict, console
from verification.__main__ import main as judge
from verification.report import Finding, Report

HOSTILE = "\x1b[2J\x1b[31mOWNED\x07\x9b5m\r\n[bold]\u202e\u2028"
SURROGATE = "\ud800x\udc80"
#: what a terminal would obey, or what no encoding takes
RAW = ("\x1b", "\x07", "\x9b", "\r", "\u202e", "\u2028", "\ud800", "\udc80")


@pytest.fixture
def minimum():
    problem = spirals(4, depth=2)
    start = random_start(problem, np.random.default_rng(0), 0.1)
    return polish(problem, start).to_file()


def with_origin(path, content, **changes):
    """Write the file with other stored text in "origin", its hash included."""
    files.save(path, content)
    with safetensors.safe_open(path, framework="numpy") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        metadata = dict(file.metadata())
    origin = json.loads(metadata["origin"]) | changes
    metadata["origin"] = json.dumps(origin)
    path.write_bytes(safetensors.numpy.save(tensors, metadata))


@pytest.mark.parametrize("text", [HOSTILE, SURROGATE])
def test_text_in_origin_is_shown_escaped_and_the_report_is_written(minimum, tmp_path, capsys, text):
    path, report, table = tmp_path / "a", tmp_path / "report.json", tmp_path / "report.tex"
    names = ("sha256", "producer", "solver", "status", "created")
    with_origin(path, minimum, **dict.fromkeys(names, text), options={text: text})
    only = ("--only", "statement", "depth", "first_order", "diagnosis")
    assert judge([str(path), "--json", str(report), "--latex", str(table), *only]) == 1
    said = capsys.readouterr()
    written = report.read_bytes().decode("ascii")
    for shown in (said.out, said.err, table.read_text(), written):
        assert not any(raw in shown for raw in RAW)
    assert text.encode("unicode_escape").decode()[:6] in said.out
    line = next(c for c in json.loads(written)["checks"] if c["name"] == "statement.sha256")
    assert line["verdict"] == "failed"


def test_text_in_origin_is_shown_escaped_by_the_other_rooms(minimum, tmp_path, capsys):
    path = tmp_path / "a"
    with_origin(path, minimum, sha256=HOSTILE, producer=SURROGATE, solver=HOSTILE, status=HOSTILE)
    assert solve(["polish", str(path), "--output", str(tmp_path / "b")]) == 0
    assert baseline(["eval", str(path), "--json", str(tmp_path / "c")]) == 0
    assert baseline(["export", str(path), "--output", str(tmp_path / "d")]) == 0
    said = capsys.readouterr()
    assert not any(raw in said.out + said.err for raw in RAW)


@pytest.mark.parametrize(
    ("where", "text"),
    [("tensor", HOSTILE), ("tensor", "a\x1bb"), ("dtype", HOSTILE), ("key", HOSTILE),
     ("key", SURROGATE), ("value", HOSTILE), ("value", SURROGATE)],
)  # fmt: skip
def test_a_refusal_that_quotes_the_file_quotes_it_escaped(minimum, tmp_path, capsys, where, text):
    path = tmp_path / "a"
    files.save(path, minimum)
    content = path.read_bytes()
    size = struct.unpack("<Q", content[:8])[0]
    found = json.loads(content[8 : 8 + size])
    problem = json.loads(found["__metadata__"]["problem"])
    if where == "tensor":
        found[text] = found.pop("A")
    elif where == "dtype":
        found["A"]["dtype"] = text
    elif where == "key":
        problem[text] = 1
    else:
        problem["scheme"] = text
    found["__metadata__"]["problem"] = json.dumps(problem)
    new = json.dumps(found).encode()
    path.write_bytes(struct.pack("<Q", len(new)) + new + content[8 + size :])
    for main, arguments in (
        (judge, [str(path)]),
        (solve, ["polish", str(path), "--output", str(tmp_path / "b")]),
        (baseline, ["eval", str(path)]),
    ):
        assert main(arguments) == 2
        said = capsys.readouterr().err
        assert len(said.splitlines()) == 1 and not any(raw in said for raw in RAW)
    assert os.listdir(tmp_path) == ["a"]


@pytest.mark.parametrize("terminal", [False, True])
def test_a_report_reaches_the_terminal_escaped(monkeypatch, capsys, terminal):
    for name in ("FORCE_COLOR", "TTY_COMPATIBLE"):
        monkeypatch.setenv(name, "1") if terminal else monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("COLUMNS", "300")
    entry = Finding(name="depth.x", verdict=Verdict.FAILED, where=HOSTILE, message=SURROGATE)
    console.show(Report(entries=(entry,)))
    shown = capsys.readouterr().out
    assert r"\x1b[2J\x1b[31mOWNED" in shown and r"[bold]" in shown and r"\ud800x\udc80" in shown
    assert "\x1b[2J" not in shown and "\x07" not in shown


def test_latex_takes_every_character_as_a_character():
    where = r"\input{x} $a^2$ 5% #1 a_b ~ <= >= < > & {"
    entry = Finding(name="depth.x", verdict=Verdict.OBSERVED, where=where)
    row = console.latex_text(Report(entries=(entry,))).splitlines()[2]
    assert row.endswith(
        r"\textbackslash{}input\{x\} \$a\textasciicircum{}2\$ 5\% \#1 a\_b \textasciitilde{}"
        r" $\le$ $\ge$ $<$ $>$ \& \{ \\"
    )


def test_many_keys_cost_linear_time():
    # looking for each key among all would take minutes, not a tenth of a second
    text = json.dumps({str(i): i for i in range(200_000)})
    assert len(description.loads_json(text)) == 200_000
    with pytest.raises(ValueError, match="the key '7' twice"):
        description.loads_json(text[:-1] + ', "7": 1}')


def test_numbers_without_measure_are_refused_by_the_name_of_the_file(minimum, tmp_path, capsys):
    path = tmp_path / "a.safetensors"
    files.save(path, minimum)
    with safetensors.safe_open(path, framework="numpy") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        metadata = dict(file.metadata())
    for key in ("n_classes", "h", "gamma"):
        problem = json.loads(metadata["problem"]) | {key: 10**400}
        text = json.dumps(problem)
        path.write_bytes(safetensors.numpy.save(tensors, metadata | {"problem": text}))
        for main in (judge, lambda line: baseline(["eval", *line])):
            assert main([str(path)]) == 2
            said = capsys.readouterr().err
            assert str(path) in said and len(said.splitlines()) == 1


def test_deep_nesting_is_one_sentence(tmp_path, capsys):
    deep = "[" * 100_000 + "]" * 100_000
    (tmp_path / "p.json").write_text('{"data": ' + deep + "}")
    (tmp_path / "p.toml").write_text("data = " + deep)
    (tmp_path / "a").write_bytes(struct.pack("<Q", len(deep)) + deep.encode())
    for name in ("p.json", "p.toml"):
        out = str(tmp_path / "out")
        assert solve(["solve", str(tmp_path / name), "--output", out]) == 2
        said = capsys.readouterr().err
        assert "too deeply" in said and len(said.splitlines()) == 1
    assert judge([str(tmp_path / "a")]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1
    with pytest.raises(ValueError, match="too deeply"):
        header(tmp_path / "a")


@pytest.mark.parametrize(
    ("names", "written"),
    [
        (None, ("input $s_1$", "input $s_2$")),
        (("a$b$", "c"), (r"input a\$b\$", "input c")),
    ],
)
def test_names_of_columns_are_no_mathematics_in_a_figure(names, written):
    problem = spirals(4, depth=1).with_(column_names=names)
    controls = random_start(problem, np.random.default_rng(0), 0.1)
    (axis,) = figures.decision_region(problem, controls, points=4).axes
    assert (axis.get_xlabel(), axis.get_ylabel()) == written
