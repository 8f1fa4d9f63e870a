"""What people have is read as it was meant, by every command and from Python: one reader.

The same problem, or the same sentence; what is read is said, and the names go into the file.
"""

import numpy as np
import pytest
import tomli_w
from people_files import CASES, X, Y, npz, plain, points, rows, text

import nn_baseline.__main__
import ocp
import ocp.__main__

IDS = [case.file for case in CASES]


def flags(options: dict) -> list[str]:
    """The options as a command line spells them."""
    found = []
    for name, value in options.items():
        flag = "--" + name.replace("_", "-")
        found += (
            [flag]
            if value is True
            else [flag, *value]
            if isinstance(value, list)
            else [flag, value]
        )
    return found


@pytest.fixture(params=CASES, ids=IDS)
def case(request, tmp_path):
    request.param.write(tmp_path / request.param.file)
    return request.param


def sentence(text: str, *prefixes: str) -> str:
    """The last line of standard error, without what each command puts before it."""
    last = text.strip().splitlines()[-1]
    for prefix in prefixes:
        last = last.removeprefix(prefix)
    return last


def test_every_layout_is_read_as_it_was_meant_or_refused_with_the_way_out(case, tmp_path):
    path = tmp_path / case.file
    if case.refused:
        with pytest.raises(ValueError, match=r".") as refusal:
            ocp.read_data(path, **case.options)
        for words in (str(path), *case.refused):
            assert words in str(refusal.value)
        assert "\n" not in str(refusal.value)
        return
    found = ocp.read_data(path, **case.options)
    for words in case.says:
        assert words in found.says
    assert found.classes == case.names
    for words in case.cautions:
        assert any(words in caution for caution in found.cautions)
    if case.labels is not None:
        assert np.array_equal(found.labels, case.labels())


def test_every_command_reads_the_same_problem_or_refuses_in_the_same_words(case, tmp_path, capsys):
    path, out = tmp_path / case.file, tmp_path / "out"
    described = {"problem": {"depth": 1, "r": 0.1}, "data": {"file": case.file, **case.options}}
    (tmp_path / "p.toml").write_text(tomli_w.dumps(described))
    told = flags(case.options)
    commands = [
        (ocp.__main__.main, ["solve", str(tmp_path / "p.toml"), "--output", f"{out}.safetensors"],
         f"{out}.safetensors"),
        (nn_baseline.__main__.main, ["train", str(path), "--output", str(out), "--depth", "1",
         "--width", "4", "--epochs", "1", "--embed", *told], f"{out}/checkpoint.safetensors"),
    ]  # fmt: skip
    if case.refused:
        with pytest.raises(ValueError, match=r".") as refusal:
            ocp.read_data(path, **case.options)
        many = ["multistart", str(path), "--starts", "1", "--output", str(tmp_path / "many"), *told]
        for main, arguments, written in [*commands, (ocp.__main__.main, many, tmp_path / "many")]:
            assert main(arguments) == 2
            said = sentence(
                capsys.readouterr().err,
                "error: ",
                "nn_baseline train: ",
                f"{tmp_path / 'p.toml'}: ",
            )
            assert said == str(refusal.value)
            assert not (tmp_path / written).exists()
        return
    found = ocp.read_data(path, **case.options)
    for main, arguments, written in commands:
        assert main(arguments) in (0, 1)
        shown = capsys.readouterr()
        assert f"read {found.says}" in shown.out.replace("\n", "")
        assert all(f"warning: {caution}" in shown.err for caution in found.cautions)
        content = ocp.load(written)
        problem = content.problem
        assert np.array_equal(problem.inputs, found.inputs)
        assert np.array_equal(problem.labels, found.labels)
        assert (problem.input_scale, problem.n_classes) == (found.scale, found.n_classes)
        assert (problem.class_names, problem.column_names) == (found.classes, found.columns)
        assert (content.test_inputs is None) == (found.test_inputs is None)
        if found.test is not None:
            assert np.array_equal(content.test_inputs, found.test_inputs)
            assert np.array_equal(content.test_labels, found.test_labels)


def test_from_python_a_frame_a_pair_and_a_mapping_are_the_same_problem(tmp_path):
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame({"x1": X[:, 0], "kind": np.array(["b", "a"])[Y], "x2": X[:, 1]})
    found = [
        ocp.read_data(frame, label="kind"),
        ocp.read_data((frame[["x1", "x2"]], frame["kind"])),
        ocp.read_data((X, np.array(["b", "a"])[Y])),
        ocp.read_data({"data": X, "target": 1 - Y, "target_names": np.array(["a", "b"])}),
    ]
    for dataset in found:
        assert np.array_equal(dataset.inputs, X) and np.array_equal(dataset.labels, 1 - Y)
        assert dataset.classes == ("a", "b")
    assert [dataset.columns for dataset in found] == [("x1", "x2"), ("x1", "x2"), None, None]
    with pytest.raises(ValueError, match="wanted a path, a DataFrame, a pair"):
        ocp.read_data(3)


def test_a_parquet_file_is_a_frame(tmp_path):
    pandas = pytest.importorskip("pandas")
    pytest.importorskip("pyarrow", reason="the extra `parquet` is not installed")
    frame = pandas.DataFrame({"x1": X[:, 0], "x2": X[:, 1], "label": Y})
    frame.to_parquet(tmp_path / "a.parquet")
    found = ocp.read_data(tmp_path / "a.parquet")
    assert np.array_equal(found.inputs, X) and np.array_equal(found.labels, Y)
    assert found.columns == ("x1", "x2")
    (tmp_path / "a.parquet").write_bytes((tmp_path / "a.parquet").read_bytes()[:200])
    with pytest.raises(ValueError, match="damaged Parquet file"):
        ocp.read_data(tmp_path / "a.parquet")


def test_every_float_is_read_back_to_the_last_bit(tmp_path):
    rng = np.random.default_rng(0)
    x = rng.standard_normal((400, 3)) * 10.0 ** rng.integers(-25, 25, (400, 3))
    text(*rows(x, np.arange(400) % 2))(tmp_path / "a.csv")
    assert np.array_equal(ocp.read_data(tmp_path / "a.csv").inputs, x)


def test_n_classes_keeps_numbers_as_they_are_and_maps_what_leaves_their_range(tmp_path):
    npz(inputs=X, labels=Y + 1)(tmp_path / "a.npz")
    kept = ocp.read_data(tmp_path / "a.npz", n_classes=3)
    assert kept.classes is None and np.array_equal(kept.labels, Y + 1) and kept.n_classes == 3
    mapped = ocp.read_data(tmp_path / "a.npz", n_classes=2)
    assert mapped.classes == ("1", "2") and np.array_equal(mapped.labels, Y)
    npz(inputs=X, labels=np.arange(24) % 4)(tmp_path / "b.npz")
    with pytest.raises(ValueError, match=r"4 classes .* wanted n_classes = 3"):
        ocp.read_data(tmp_path / "b.npz", n_classes=3)


def test_classes_come_from_both_parts(tmp_path):
    npz(inputs=X, labels=5 * Y, test_inputs=X[:1], test_labels=np.array([3]))(tmp_path / "a.npz")
    found = ocp.read_data(tmp_path / "a.npz")
    assert found.classes == ("0", "3", "5") and found.test_labels.tolist() == [1]


def test_standardised_inputs_are_folded_into_the_lift(tmp_path):
    x, y = points(60, 3)
    x = np.column_stack([1e4 * x[:, 0] + 7e3, 1e-3 * x[:, 1], np.full(60, 5.0), x[:, 0] ** 2])
    text(*rows(x, y))(tmp_path / "a.csv")
    raw = ocp.read_data(tmp_path / "a.csv")
    assert any("standardise" in caution for caution in raw.problem(width=4).cautions())
    found = ocp.read_data(tmp_path / "a.csv", standardise=True)
    assert "1 column without spread only centred" in found.says
    wanted = (x - x.mean(axis=0)) / np.where(x.std(axis=0) < 1e-9, 1.0, x.std(axis=0))
    problem = found.problem(depth=1)
    assert problem.width == 4 and not problem.cautions()
    lifted = problem.input_values @ problem.lift_weight.T + problem.lift_bias
    assert np.allclose(lifted, wanted, atol=1e-9)
    narrow = found.problem(depth=1, width=2, lift="principal")
    lifted = narrow.input_values @ narrow.lift_weight.T + narrow.lift_bias
    # two routes: the principal axes by the singular value decomposition of what was standardised
    values, axes = np.linalg.svd(wanted, full_matrices=False)[1:]
    spread = np.sqrt((values[:2] ** 2).mean() / (len(x) - 1))
    signs = np.sign(axes[[0, 1], np.abs(axes[:2]).argmax(axis=1)])[:, None]
    assert np.allclose(lifted, wanted @ (signs * axes[:2]).T / spread, atol=1e-8)


def test_a_narrow_state_needs_a_lift_and_takes_three(tmp_path):
    x = np.random.default_rng(0).random((40, 64))
    npz(inputs=x, labels=np.arange(40) % 2)(tmp_path / "a.npz")
    (tmp_path / "p.toml").write_text("[data]\nfile = 'a.npz'\n")
    with pytest.raises(ValueError, match="64 inputs and no width is given"):
        ocp.load_problem(tmp_path / "p.toml")
    for lift in ("principal", "gaussian"):
        (tmp_path / "p.toml").write_text(
            f"[problem]\nwidth = 10\nlift = '{lift}'\n[data]\nfile = 'a.npz'\n"
        )
        problem = ocp.load_problem(tmp_path / "p.toml")
        assert problem.lift_weight.shape == (10, 64)
        (tmp_path / "q.toml").write_text(
            f"lift = '{lift}'\n[problem]\nwidth = 10\n[data]\nfile = 'a.npz'\n"
        )
        assert np.array_equal(
            ocp.load_problem(tmp_path / "q.toml").lift_weight, problem.lift_weight
        )
    (tmp_path / "p.toml").write_text("[problem]\nwidth = 10\n[data]\nfile = 'a.npz'\n")
    with pytest.raises(ValueError, match=r'width is 10 .* lift = "principal"'):
        ocp.load_problem(tmp_path / "p.toml")


def test_a_command_line_goes_before_the_description(tmp_path, capsys):
    text("a,b,kind,other", *(f"{p},{q},{c},{1 - c}" for (p, q), c in zip(X, Y, strict=True)))(
        tmp_path / "a.csv"
    )
    (tmp_path / "p.toml").write_text(
        "[problem]\ndepth = 1\nr = 0.1\n[data]\nfile = 'a.csv'\nlabel = 'kind'\ndrop = ['other']\n"
    )
    out = tmp_path / "out.safetensors"
    command = ["solve", str(tmp_path / "p.toml"), "--output", str(out)]
    assert ocp.__main__.main(command) in (0, 1)
    assert np.array_equal(ocp.load(out).problem.labels, Y)
    assert ocp.__main__.main([*command, "--label", "other", "--drop", "kind"]) in (0, 1)
    assert np.array_equal(ocp.load(out).problem.labels, 1 - Y)
    capsys.readouterr()
    assert ocp.__main__.main(["solve", str(out), "--warm", "--label", "3", "--output", "x"]) == 2
    assert "--label is given, but a training file holds its samples" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"label": "colour"}, "label is 'colour', no column; wanted one of 'x1', 'x2', 'label'"),
        ({"label": 9}, "label is '9', no column"),
        ({"drop": ["nothing"]}, "drop is 'nothing', no column"),
        ({"drop": ["label"], "label": "label"}, "both label and drop"),
        ({"drop": ["x1", "x2"]}, "wanted coordinates and a label"),
        ({"separator": "comma and space"}, "separator is 'comma and space'"),
        ({"decimal": "x"}, "decimal is 'x'; wanted '.' or ','"),
        ({"separator": ",", "decimal": ","}, "both ','"),
        ({"encoding": "klingon"}, "encoding is 'klingon'"),
        ({"encoding": "hex"}, "encoding is 'hex'"),
        ({"header": "yes"}, "header is 'yes'; wanted true or false"),
        ({"drop_missing": 1}, "drop_missing is 1; wanted true or false"),
        ({"colour": 1}, "unknown key 'colour'"),
        ({"header": False}, "line 1"),
        ({"separator": ";"}, "there is one column"),
    ],
)
def test_options_that_do_not_fit_the_table_are_refused(tmp_path, options, words):
    plain(header="x1,x2,label")(tmp_path / "a.csv")
    with pytest.raises(ValueError) as refusal:
        ocp.read_data(tmp_path / "a.csv", **options)
    assert words in str(refusal.value)


def test_options_of_tables_are_refused_for_arrays(tmp_path):
    npz(inputs=X, labels=Y)(tmp_path / "a.npz")
    with pytest.raises(ValueError, match="label is 'y', but the data are arrays, not a table"):
        ocp.read_data(tmp_path / "a.npz", label="y")


def test_names_stay_in_the_file_and_what_does_not_fit_is_left_out(tmp_path):
    plain(["RM"[c] for c in Y], header="depth,angle,rock")(tmp_path / "a.csv")
    problem = ocp.read_data(tmp_path / "a.csv").problem(depth=1)
    solution = ocp.solve(problem)
    ocp.save(tmp_path / "s.safetensors", solution.to_file())
    content = ocp.load(tmp_path / "s.safetensors")
    assert content.origin["classes"] == ["M", "R"] and content.origin["columns"] == [
        "depth",
        "angle",
    ]
    assert content.problem.classes == ("M", "R")
    # names are no part of the statement: the hash does not see them
    bare = problem.with_(class_names=None, column_names=None)
    assert ocp.solve(bare).to_file().problem.class_names is None
    with pytest.raises(ValueError, match=r"class_names is .* wanted a list of 2 texts"):
        problem.with_(class_names=("M",))
    relabelled = problem.with_(labels=1 - problem.labels)
    assert relabelled.class_names is None and relabelled.column_names == ("depth", "angle")


def test_the_outcome_is_said_with_its_root_cause_first(tmp_path, capsys):
    x, y = points(60, 3)
    text(*rows(np.column_stack([5e3 * x[:, 0], 1e-3 * x[:, 1]]), y))(tmp_path / "a.csv")
    (tmp_path / "p.toml").write_text("[problem]\ndepth = 2\n[data]\nfile = 'a.csv'\n")
    out = tmp_path / "out.safetensors"
    command = ["solve", str(tmp_path / "p.toml"), "--max-iterations", "30", "--output", str(out)]
    ocp.__main__.main(command)
    before, after = capsys.readouterr().err.strip().splitlines()
    assert before.startswith("warning: the coordinates of x_0 reach") and "--standardise" in before
    assert "of 60 samples" in after and "--standardise" in after
    assert ocp.__main__.main([*command, "--standardise"]) in (0, 1)
    assert "right" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("described", "words"),
    [
        ("[problem]\nh = 1e308", "h is 1e+308; wanted at most 1e+100"),
        ("[data]\nname = 'circles'\nseed = 1.5", "seed is 1.5; wanted an integer"),
        ("[data]\nname = ['spirals']", "unknown dataset ['spirals']"),
        (f"[data]\nname = 'circles'\nnoise = {'9' * 400}", "noise is inf"),
        ("[data]\ninputs = [[1, 2], [3, 4]]\nlabels = 1", "labels have shape ()"),
        ("[data]\ninputs = [[1, 2], [3, 4]]\nlabels = ['a', 1]", "labels mixes text with other"),
        (f"x = {'[' * 5000}", "nested too deeply"),
        ("[problem]\nlift = 3", "lift is 3; wanted zeros, gaussian or principal"),
        ("[problem]\nlift = 'round'", "lift is 'round'; wanted one of zeros, gaussian, principal"),
        ("lift = 'zeros'\n[problem]\nlift = 'zeros'", "lift is given twice"),
    ],
)
def test_descriptions_that_mean_nothing_name_the_file(tmp_path, described, words, capsys):
    path = tmp_path / "p.toml"
    path.write_text(described)
    solve = ["solve", str(path), "--output", str(tmp_path / "o.safetensors")]
    train = ["train", str(path), "--output", str(tmp_path / "out"), "--epochs", "1"]
    for main, arguments in ((ocp.__main__.main, solve), (nn_baseline.__main__.main, train)):
        assert main(arguments) == 2
        said = capsys.readouterr().err
        assert f"{path}: " in said and words in said and said.count("\n") == 1
    assert [p.name for p in tmp_path.iterdir()] == ["p.toml"]


def test_flags_of_the_statement_change_a_description_before_its_ends_are_made(tmp_path, capsys):
    (tmp_path / "p.toml").write_text("[problem]\ndepth = 9\nr = 0.5\n[data]\nname = 'moons'\n")
    out = tmp_path / "out"
    command = ["train", str(tmp_path / "p.toml"), "--output", str(out), "--epochs", "1"]
    assert nn_baseline.__main__.main([*command, "--width", "6", "--depth", "2"]) == 0
    problem = ocp.load(out / "checkpoint.safetensors").problem
    assert (problem.width, problem.depth, problem.r) == (6, 2, 0.5)
