"""The machinery of the studies without a study: rows that are kept, tables that belong together."""

import argparse
import json
import math
import sys
from pathlib import Path

import pytest

STUDIES = Path(__file__).parents[2] / "examples" / "studies"
sys.path.insert(0, str(STUDIES))

import csv_tables  # noqa: E402
import study  # noqa: E402


def squares(parameters, given):
    if parameters["x"] < 0:
        raise ArithmeticError("below zero")
    return {"square": parameters["x"] ** 2, "none": math.nan, "list": [1, 2.5]}, {"f": b"x"}


class Quiet:
    def print(self, *text, **options):
        pass


def held(folder, **changes):
    options = {"output": folder, "workers": 1, "cluster": None, "minutes": math.inf} | changes
    return study.Study("s", argparse.Namespace(**options), Quiet())


def task(x, **given):
    return study.Task(part="p", label=str(x), parameters={"x": x}, given=given)


def test_rows_are_kept_and_a_row_that_fails_costs_no_other(tmp_path):
    with held(tmp_path) as s:
        with pytest.raises(ValueError, match=r"ArithmeticError: below zero; the finished"):
            s.rows(squares, [task(1), task(-1), task(2)])
        found = s.rows(lambda *_: 1 / 0, [task(1), task(2)])  # nothing is computed again
    assert [row["result"]["square"] for row in found] == [1, 4]
    assert found[0]["result"]["none"] is None
    assert (tmp_path / "rows" / f"{task(1).name}.f").read_bytes() == b"x"


def test_a_row_is_named_by_all_that_it_depends_on(tmp_path):
    names = {task(1).name, task(2).name, task(1, known="a").name, task(1, known="b").name}
    assert len(names) == 4
    assert task(1).name == task(1).name


def test_a_damaged_row_is_refused_and_not_taken_for_a_result(tmp_path):
    with held(tmp_path) as s:
        s.rows(squares, [task(1)])
        (tmp_path / "rows" / f"{task(1).name}.json").write_text('{"result": ')
        with pytest.raises(ValueError, match="is no row of this study"):
            s.rows(squares, [task(1)])


def test_a_row_under_another_name_is_refused(tmp_path):
    with held(tmp_path) as s:
        s.rows(squares, [task(1), task(2)])
        rows = tmp_path / "rows"
        (rows / f"{task(1).name}.json").write_bytes((rows / f"{task(2).name}.json").read_bytes())
        with pytest.raises(ValueError, match=r"is no row of this study \(it is another row\)"):
            s.rows(squares, [task(1)])


@pytest.mark.parametrize(
    "change",
    [{"cpu_seconds": -1}, {"wall_seconds": "1"}, {"result": []}, {"versions": {"numpy": 2}},
     {"files": {"f": 1}}, {"files": {"../f": "x"}}, {"more": 1}, {"cpu_seconds": math.nan}],
)  # fmt: skip
def test_every_field_of_a_row_is_checked(tmp_path, change):
    with held(tmp_path) as s:
        s.rows(squares, [task(1)])
        path = tmp_path / "rows" / f"{task(1).name}.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | change))
        with pytest.raises(ValueError, match=r"is no row of this study .*; remove it"):
            s.rows(squares, [task(1)])


def test_a_file_of_a_row_that_is_missing_is_made_again_and_another_one_is_noticed(tmp_path):
    with held(tmp_path) as s:
        s.rows(squares, [task(1)])
        file = tmp_path / "rows" / f"{task(1).name}.f"
        file.unlink()
        s.rows(squares, [task(1)])
        assert file.read_bytes() == b"x"
        file.write_bytes(b"y")
        with pytest.raises(ValueError, match=r"is not what the row .* made; remove both"):
            s.rows(squares, [task(1)])


def test_a_study_owns_its_folder(tmp_path):
    with held(tmp_path), pytest.raises(ValueError, match="in use by another run"), held(tmp_path):
        pass
    assert not (tmp_path / ".lock").exists()


def test_tables_that_do_not_belong_together_are_not_drawn(tmp_path):
    draw = lambda tables: {"figure": sorted(tables["p"][0])}  # noqa: E731
    with held(tmp_path) as s:
        s.table("p", [{"row": "a", "x": 1}])
        s.write()
    (tmp_path / "s_other.csv").write_text("row,y\na,1\n")  # of an earlier run
    assert study.drawn("s", tmp_path, draw) == {"figure": ["row", "x"]}
    broken = lambda tables: tables["q"]  # noqa: E731
    with pytest.raises(ValueError, match="no complete tables of the study s: KeyError"):
        study.drawn("s", tmp_path, broken)
    for file, content in (("s_p.csv", "row,x\n"), ("s_p.csv", "\xff"), ("s_common.json", "[1"),
                          ("s_common.json", "[1]"), ("s_p.csv", None)):  # fmt: skip
        before = {path: path.read_bytes() for path in tmp_path.glob("s_*")}
        (tmp_path / file).unlink()
        if content is not None:
            (tmp_path / file).write_text(content, encoding="latin-1")
        with pytest.raises(ValueError, match=f"{file} is no table of the study s"):
            study.drawn("s", tmp_path, draw)
        for path, content in before.items():
            path.write_bytes(content)


def test_tables_read_back_to_the_last_digit(tmp_path):
    lines = [
        {"row": "a", "x": 0.1 + 0.2, "n": 3, "none": None, "list": [1.5], "b": True, "same": "t"},
        {"row": "b", "x": 1e-300, "n": 4, "none": 2.0, "list": [1, 2.0], "b": False, "same": "t"},
        {"row": "c", "x": -1.0, "n": 5, "none": None, "list": [], "b": True, "same": "t"},
    ]
    with held(tmp_path) as s:
        s.table("p", lines)
        s.write()
    back = csv_tables.read(tmp_path / "s_p.csv")
    assert json.loads((tmp_path / "s_common.json").read_text())["p"] == {"same": "t"}
    assert [{**line, "same": "t"} for line in back] == lines
