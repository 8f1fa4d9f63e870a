"""An option that would be ignored is refused in one sentence; --quick overrides nothing given."""

import importlib.util
import json
import sys
from pathlib import Path

import numpy as np
import pytest
from problems import spirals

from nn_baseline.__main__ import main as baseline
from ocp import files
from ocp.__main__ import main as solve
from ocp.controls import random_start
from verification.__main__ import main as judge

ROOT = Path(__file__).parents[1]
TOML = "[problem]\ndepth = 2\nwidth = 2\n[data]\nname = 'moons'\nn_samples = 6\n"


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    problem = spirals(4, depth=2)
    start = random_start(problem, np.random.default_rng(0), 0.1)
    files.save("a.safetensors", files.TrainingFile(problem=problem, controls=start))
    Path("p.toml").write_text(TOML)
    return tmp_path


def example(name):
    """The module of an example, as a script would be run."""
    path = ROOT / "examples" / f"{name}.py"
    for folder in (path.parent, ROOT / "examples"):
        if str(folder) not in sys.path:
            sys.path.insert(0, str(folder))
    spec = importlib.util.spec_from_file_location(f"quick_{path.stem}", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    ("main", "line"),
    [
        (solve, "solve p.toml --output o --cold --trials 7"),
        (solve, "solve a.safetensors --output o --warm --trials 7"),
        (solve, "solve a.safetensors --output o --warm --seed 0"),
        (solve, "solve p.toml --output o --cold --effort quick"),
        (solve, "solve a.safetensors --output o --warm --seconds 5"),
        (solve, "solve p.toml --output o --trials 2 --effort quick"),
        (solve, "solve p.toml --output o --seconds 5 --effort quick"),
        (solve, "solve p.toml --output o --solver ipopt --effort quick"),
        (solve, "solve p.toml --output o --data a.safetensors"),
        (solve, "multistart p.toml --starts 1 --output o --data a.safetensors"),
        (solve, "multistart p.toml --starts 1 --output o --workers 2 --scheduler tcp://x:1"),
        (judge, "a.safetensors --budget 9"),
        (judge, "a.safetensors --budget 9 --only geometry"),
        (judge, "a.safetensors --tol 1e-3 --only geometry depth"),
        (judge, "a.safetensors --data p.toml"),
        (baseline, "train p.toml --output o --split 3"),
        (baseline, "train p.toml --output o --lift gaussian"),
        (baseline, "train p.toml --output o --trained layers"),
        (baseline, "train a.safetensors --output o --embed"),
        (baseline, "train a.safetensors --output o --data-dir ."),
        (baseline, "train p.toml --output o --no-held-out"),
        (baseline, "train digits --output o --data-dir ."),
        (baseline, "train digits --output o --schedule constant --lr-end 0.1"),
        (baseline, "train digits --output o --min-fall 0.1"),
        (baseline, "train digits --output o --momentum 0.1"),
        (baseline, "crop a.safetensors --fresh 0 --lr 0.1"),
        (baseline, "crop a.safetensors --fresh 0 --lift gaussian"),
        (baseline, "crop a.safetensors --fresh 1 --lift principal"),
        (baseline, "crop a.safetensors --lr 0.1"),
        (baseline, "crop a.safetensors --lose 0.2"),
        (baseline, "crop a.safetensors --with-samples"),
        (baseline, "crop a.safetensors --lose 0.2 --keep 1 --output o.safetensors"),
        (baseline, "depth digits --output o --data-dir ."),
    ],
)
def test_what_would_be_ignored_is_refused(folder, capsys, main, line):
    before = sorted(path.name for path in folder.iterdir())
    assert main(line.split()) == 2
    said = capsys.readouterr().err
    assert len(said.splitlines()) == 1 and ("given" in said or "has it" in said), said
    assert sorted(path.name for path in folder.iterdir()) == before


@pytest.mark.parametrize(
    "line",
    [
        "solve a.safetensors --output o --cold --warm",
        "polish a.safetensors --output o --seed 1",
        "polish a.safetensors --output o --trials 2",
    ],
)
def test_what_a_verb_has_no_use_for_is_a_usage_error(folder, line):
    with pytest.raises(SystemExit) as ended:
        solve(line.split())
    assert ended.value.code == 2 and not (folder / "o").exists()


def test_tolerance_and_certificate_are_read_together(folder):
    assert judge(["a.safetensors", "--tol", "1e-3", "--only", "geometry", "--certify"]) in (0, 3)


@pytest.mark.parametrize(
    ("name", "line", "kept"),
    [
        ("spirals_ocp", "--depth 6", {"depth": 6, "points_per_class": 12}),
        ("spirals_ocp", "--points-per-class 9", {"depth": 8, "points_per_class": 9}),
        ("digits_ocp", "--images 50", {"images": 50, "depth": 3}),
        ("cross_validate", "--steps 7", {"steps": 7, "starts": 2, "seeds": 2}),
        ("cross_validate", "--starts 12", {"steps": 200, "starts": 12}),
        ("depth_growth", "--depths 2", {"depths": [2], "seeds": 1}),
        ("depth_growth", "--seeds 3 --cold-up-to 0", {"seeds": 3, "cold_up_to": 0}),
        ("path_ladder", "--depths 9 7 8", {"depths": [7, 8, 9], "workers": 1}),
        ("path_ladder", "--workers 2 --steps 5000", {"workers": 2, "steps": 5000, "seeds": 1}),
        ("studies/landscape", "--starts 4", {"starts": 4, "shakes": 3}),
        ("studies/landscape", "--adam 20", {"adam": 20, "starts": 6}),
    ],
)
def test_quick_overrides_nothing_that_was_given(name, line, kept):
    found = vars(example(name).parse(["--quick", *line.split()]))
    assert {key: found[key] for key in kept} == kept


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("spirals_ocp", "--quick --starts 0"),
        ("spirals_ocp", "--quick --effort much"),
        ("spirals_ocp", "--quick --depth 0"),
        ("depth_growth", "--quick --depths 0"),
        ("digits_ocp", "--quick --images 9"),
        ("digits_ocp", "--quick --trials 0"),
        ("cross_validate", "--quick --seeds 0"),
        ("path_ladder", "--quick --depths 1 2"),
        ("studies/landscape", "--quick --starts 3"),
    ],
)
def test_quick_hides_no_wrong_value(tmp_path, name, line):
    with pytest.raises(ValueError, match="wanted"):
        example(name).main([*line.split(), "--output", str(tmp_path / "o")])
    assert not (tmp_path / "o").exists()


@pytest.mark.parametrize("name", ["depth", "landscape", "losses", "soft_target", "weights"])
def test_a_study_from_tables_refuses_what_it_would_not_use(name):
    parse = example(f"studies/{name}").parse
    parse(["--from-tables", "x", "--output", "y"])
    for more in (["--quick"], ["--workers", "2"], ["--minutes", "1"], ["--cluster", "local"]):
        with pytest.raises(ValueError, match="is given with --from-tables"):
            parse(["--from-tables", "x", *more])
    with pytest.raises(ValueError, match="is given with --cluster"):
        parse(["--workers", "2", "--cluster", "tcp://x:1"])


def test_defaults_are_what_they_were(folder):
    assert solve(
        ["solve", "p.toml", "--output", "o", "--json", "o.json", "--max-iterations", "2"]
    ) in (0, 1)
    record = json.loads(Path("o.json").read_text())
    assert record["options"]["search"]["effort"] == "standard" and record["seed"] == 0
