"""Layouts that people have, each with what its author means by it: read so and said, or refused
with what helps.  The samples are 24 points of two classes, where a layout needs no others."""

import gzip
import io
import zipfile

import numpy as np
import pytest

import ocp

N = 24
X = np.round(np.random.default_rng(0).normal(size=(N, 2)), 3)
Y = (X[:, 0] > 0).astype(int)
A, B = ([f"{value:.3f}" for value in column] for column in X.T)


def rows(cells, header=None, mark=",", end="\n"):
    """A text with one line a sample; cells : of sample i, or a text that is formatted."""
    found = [cells(i) for i in range(N)]
    lines = [line if isinstance(line, str) else mark.join(map(str, line)) for line in found]
    return end.join([*([] if header is None else [header]), *lines, ""])


def plain(i):
    return A[i], B[i], Y[i]


TWO = "24 samples, 2 inputs (a, b), label column label, classes 0 (14), 1 (10)"
BARE = "24 samples, 2 inputs (columns 1, 2), label column 3, classes 0 (14), 1 (10)"
TABLE = rows(plain, "a,b,label")
SHUFFLED = np.random.default_rng(1).permutation(100)[:N]
ARFF = "@relation t\n@attribute a numeric\n@attribute b real\n@attribute class {x,y}\n@data\n"
WDBC = rows(lambda i: (842302 + 137 * i % 1000, "MB"[Y[i]], A[i], B[i]))


def saved(header="", **options):
    file = io.StringIO()
    np.savetxt(file, np.c_[X, Y], header=header, **options)
    return file.getvalue()


#: name: content, options of the reader, words of what is said (or cautioned)
READ = {
    # a row's number or name in front
    "pandas_index": (rows(lambda i: (i, *plain(i)), ",a,b,label"), {}, (TWO, "the index")),
    "index_after_split": (
        rows(lambda i: (SHUFFLED[i], *plain(i)), ",a,b,label"), {}, (TWO, "the index")),
    "index_saved_twice": (
        rows(lambda i: (i, i, *plain(i)), ",Unnamed: 0,a,b,label"), {}, (TWO, "column 2, the")),
    "r_write_table": (
        rows(lambda i: (f'"{i + 1}"', *plain(i)), '"a" "b" "label"', " "), {},
        (TWO, "separator space", "column 1, the index")),
    "r_row_names": (
        rows(lambda i: (f'"Mazda {i}"', *plain(i)), '"a" "b" "label"', " "), {},
        (TWO, "column 1, the index")),
    "r_write_csv": (rows(lambda i: (f'"{i + 1}"', *plain(i)), '"","a","b","label"'), {}, (TWO,)),
    "wdbc": (WDBC, {"label": 2}, ("2, classes B (10), M (14)", "column 1: another whole number")),
    "wdbc_dropped": (WDBC, {"label": 2, "drop": 1}, ("2 inputs (columns 3, 4), label column 2",)),
    # spreadsheets
    "excel_rows_of_marks": (
        rows(plain, "a;b;label", ";") + ";;\n;;\n;;\n", {}, (TWO, "3 empty rows left out")),
    "excel_columns_of_marks": (rows(lambda i: (*plain(i), "", ""), "a,b,label,,"), {}, (TWO,)),
    "excel_names_its_mark": (
        "sep=;\n" + rows(plain, "a;b;label", ";"), {}, (TWO, "line 1 names the separator")),
    "excel_of_a_comma_country": (
        rows(plain, "a;b;label", ";").replace(".", ","), {},
        (TWO, "separator semicolon, decimal comma")),
    "tab_and_decimal_comma": (
        rows(plain, "a\tb\tlabel", "\t").replace(".", ","), {}, (TWO, "tab, decimal comma")),
    "comma_after_each_row_alone": (rows(lambda i: (*plain(i), ""), "a,b,label"), {}, (TWO,)),
    "units_in_the_header": (rows(plain, "length (mm),weight [kg],class label"), {},
                            ("2 inputs (length (mm), weight [kg]), label column class label",)),
    # numbers as programs write them
    "savetxt": (saved(), {}, (BARE, "separator space")),
    "savetxt_header": (saved("a b label"), {}, (TWO, "names from the comment above the table")),
    "savetxt_header_comma": (saved("a,b,label", delimiter=",", fmt="%g"), {}, (TWO,)),
    "savetxt_label_first": (
        rows(lambda i: (Y[i], i % 3, i % 4), "# label,p,q"), {},
        ("2 inputs (p, q), label column label, classes 0 (14), 1 (10)",)),
    "comment_is_no_header": (rows(plain, "# made by hand, in spring"), {}, (BARE, "1 comment")),
    "matlab_exponents": (
        rows(lambda i: f"  {X[i, 0]:.7e}   {X[i, 1]:.7e}   {Y[i]:.7e}"), {}, (BARE,)),
    "cr_alone": (rows(plain, "a,b,label", end="\r"), {}, (TWO,)),
    "mixed_ends": (TABLE.replace("\n", "\r\n", 5), {}, (TWO,)),
    "blank_lines_between": (TABLE.replace("\n", "\n\n"), {}, (TWO,)),
    "no_last_end": (TABLE.rstrip(), {}, (TWO,)),
    "bom": (b"\xef\xbb\xbf" + TABLE.encode(), {}, (TWO,)),
    "utf16_big": (b"\xfe\xff" + TABLE.encode("utf-16-be"), {}, (TWO, "encoding utf-16")),
    "utf16_without_mark_told": (TABLE.encode("utf-16-le"), {"encoding": "utf-16-le"}, (TWO,)),
    "utf32": (TABLE.encode("utf-32"), {}, (TWO, "encoding utf-32")),
    "bars_around": (rows(lambda i: ("", *plain(i), ""), "|a|b|label|", "|"), {}, (TWO,)),
    "spaces_about": (rows(plain, "a, b, label", ", "), {}, (TWO,)),
    # headers of numbers
    "years_and_label": (
        rows(lambda i: (A[i], B[i], Y[i]), "2019,2020,label"), {},
        ("24 samples, 2 inputs (columns 2019, 2020), label column label",)),
    "years_told": (rows(plain, "2019,2020,2021"), {"header": True}, ("label column 2021",)),
    "same_name_twice": (rows(plain, "a,a,label"), {}, ("2 inputs (a, a)",)),
    # labels
    "one_and_two_as_floats": (
        rows(lambda i: (A[i], B[i], f"{1 + Y[i]}.0")), {}, ("labels mapped: 1 -> 0, 2 -> 1",)),
    "labels_with_spaces": (
        rows(lambda i: (A[i], B[i], " cat " if Y[i] else "dog "), "a,b,label"), {},
        ("classes cat (10), dog (14)",)),
    "labels_of_two_cases": (
        rows(lambda i: (A[i], B[i], ("Yes", "yes", "no")[i % 3]), "a,b,label"), {},
        ("no (8)", "differ in case or spaces alone")),
    "one_sample_of_a_class": (
        rows(lambda i: (A[i], B[i], int(i == 5)), "a,b,label"), {}, ("0 (23), 1 (1)",)),
    "beyond_int64": (
        rows(lambda i: (A[i], B[i], 2**63 + int(Y[i])), "a,b,label"), {},
        ("9223372036854775808 -> 0, 9223372036854775809 -> 1",)),
    "true_and_false_as_inputs": (
        rows(lambda i: (A[i], i % 3 == 0, Y[i]), "a,b,label"), {}, (TWO,)),
    "get_dummies": (
        rows(lambda i: (A[i], B[i], i % 3 == 0, i % 3 == 1, i % 3 == 2), "a,b,k_0,k_1,k_2"), {},
        ("label column k_2", "columns k_0 to k_2 sum to 1")),
    "two_columns_one_hot": (
        rows(lambda i: (A[i], B[i], 1 - Y[i], Y[i]), "a,b,no,yes"), {}, ("no to yes sum to 1",)),
    "times": (
        rows(lambda i: (1600000000 + 60 * i, *plain(i)), "when,a,b,label"), {},
        ("3 inputs (when, a, b)", "column 'when': another whole number in every row")),
    # UCI
    "ionosphere": (rows(lambda i: (1, 0, A[i], B[i], "gb"[Y[i]])), {}, ("b (10), g (14)",)),
    "wine_quality": (
        rows(lambda i: (A[i], B[i], 3 + i % 5), '"fixed acidity";"pH";"quality"', ";"), {},
        ("2 inputs (fixed acidity, pH), label column quality",)),
    "haberman": (rows(lambda i: (30 + i % 9, i % 4, 1 + Y[i])), {}, ("classes 1 (14), 2 (10)",)),
    "mnist": (rows(lambda i: (i % 4, i % 7, i % 5), "label,pixel0,pixel1"), {},
              ("2 inputs (pixel0, pixel1), label column label",)),
    "seeds_with_double_tabs": (
        rows(lambda i: "\t".join((A[i], B[i], "\t" * (i == 5) + str(Y[i])))), {}, (BARE,)),
}  # fmt: skip

#: name: content, options, words of the refusal
REFUSED = {
    "row_numbers": (rows(lambda i: (i + 1, *plain(i))), {}, ("column 1 numbers", "--drop 1")),
    "row_numbers_shuffled": (
        rows(lambda i: ((7 * i) % N, *plain(i)), "k,a,b,label"), {}, ("'k' numbers", "--keep k")),
    "row_numbers_backwards": (rows(lambda i: (N - i, *plain(i))), {}, ("column 1 numbers",)),
    "reset_index": (
        rows(lambda i: (SHUFFLED[i], *plain(i)), "index,a,b,label"), {}, ("--drop index",)),
    "passenger": (
        rows(lambda i: (SHUFFLED[i], *plain(i)), "PassengerId,a,b,label"), {},
        ("column 'PassengerId' numbers", "--drop PassengerId")),
    "customer": (
        rows(lambda i: (SHUFFLED[i], *plain(i)), "customer_id,a,b,label"), {}, ("--keep cust",)),
    "glass": (rows(lambda i: (i + 1, *plain(i)), "Id,RI,Na,Type"), {}, ("--drop Id",)),
    "zoo": (rows(lambda i: (f"animal{i}", i % 2, i % 3, i % 7)), {},
            ("line 1, column 1: found 'animal0'", "--drop 1")),
    "wdbc_header": (
        rows(lambda i: (842302 + i * 7, "MB"[Y[i]], A[i]), "id,diagnosis,radius"), {},
        ("column 'diagnosis': found 'B'", "--label diagnosis")),
    "abalone": (rows(lambda i: ("MFI"[i % 3], A[i], 5 + i % 8)), {}, ("found 'M'", "--label 1")),
    "adult": (rows(lambda i: (39 + i % 9, " State-gov", 13, " <=50K")), {}, ("'State-gov'",)),
    "bank": (rows(lambda i: (58, '"yes"', A[i], '"no"'), '"age";"loan";"balance";"y"', ";"), {},
             ("line 2, column 'loan': found 'yes'", "--drop loan")),
    "wine_class_first": (
        rows(lambda i: (1 + i // 8, A[i], 300 + (37 * i) % 900)), {}, ("column 3 has",)),
    "label_first_without_header": (
        rows(lambda i: (Y[i], A[i], B[i])), {}, ("a regression target", "--label")),
    "constant_last": (
        rows(lambda i: (*plain(i), 1.0), "a,b,kind,c"), {}, ("'c', taken for", "--label")),
    "dates_last": (
        rows(lambda i: (*plain(i), f"2020-01-0{1 + i % 3}"), "a,b,kind,day"), {},
        ("column 'day' holds dates", "--label")),
    "dates_in_front": (
        rows(lambda i: (f"2020-01-{i + 1:02d}", *plain(i)), "day,a,b,label"), {}, ("--drop day",)),
    "title": ("My measurements\n" + TABLE, {}, ("'My measurements'", "no title above it")),
    "octave_comment": ("% made by octave\n" + TABLE, {}, ("'% made by octave'", "no title")),
    "units_in_a_row": ("a,b,label\nmm,kg,-\n" + rows(plain), {}, ("line 2", "found 'mm'")),
    "total": (TABLE + "Total,,24\n", {}, ("line 26, column 'a': found 'Total'",)),
    "years": (rows(plain, "2019,2020,2021"), {}, ("line 1 is 2019,2020,2021", "--header")),
    "columns_from_one": (rows(plain, "1,2,3"), {}, ("line 1 is 1,2,3", "--no-header")),
    "words_and_numbers": (rows(plain, "a,7,label_"), {}, ("words ('a') and numbers ('7')",)),
    "thousands_or_decimals": (
        rows(lambda i: (f"1,{200 + i}", i, Y[i]), "a;b;label", ";"), {},
        ("'1,200'", "a decimal comma or thousands", "--decimal")),
    "thousands_quoted": (
        rows(lambda i: (f'"1,{200 + i}.5"', B[i], Y[i]), "a,b,label"), {}, ("found '1,200.5'",)),
    "thousands_beside_decimals": (
        rows(lambda i: (f"1.{200 + i},5", "0,5", Y[i]), "a;b;label", ";"), {}, ("'1.200,5'",)),
    "percent": (rows(lambda i: (f"{i}%", B[i], Y[i]), "a,b,label"), {}, ("found '0%'",)),
    "hexadecimal": (rows(lambda i: (hex(i), B[i], Y[i]), "a,b,label"), {}, ("found '0x0'",)),
    "underscores": (rows(lambda i: (f"1_{i}", B[i], Y[i]), "a,b,label"), {}, ("found '1_0'",)),
    "other_digits": (rows(lambda i: ("\u0663", B[i], Y[i]), "a,b,label"), {}, ("wanted a number",)),
    "infinite": (rows(lambda i: ("inf" if i == 3 else A[i], B[i], Y[i]), "a,b,label"), {},
                 ("line 5, column 'a': found inf",)),
    "no_label_at_all": (rows(lambda i: (A[i], B[i], ""), "a,b,label"), {}, ("'label': found no",)),
    "one_class": (rows(lambda i: (A[i], B[i], 1), "a,b,label"), {}, ("all labels are 1",)),
    "header_alone": ("a,b,label\n", {}, ("a header and no sample",)),
    "one_column": ("0\n1\n" * 12, {}, ("there is one column", "--separator")),
    "labels_twice": (rows(lambda i: (*plain(i), 0), "a,b,label,label"), {}, ("--label",)),
    "utf16_without_mark": (TABLE.encode("utf-16-le"), {}, ("--encoding utf-16-le",)),
    "nul_padding": (TABLE + "\0" * 100, {}, ("NUL bytes",)),
    "latin1_late": (TABLE.replace(",1\n", ",grün\n").encode("latin-1"), {}, ("--encoding",)),
    "svmlight": (rows(lambda i: f"{Y[i]} 1:{A[i]} 2:{B[i]}"), {}, ("load_svmlight_file",)),
    "json_lines": (rows(lambda i: f'{{"a": {A[i]}, "label": {Y[i]}}}'), {}, ("JSON", "CSV")),
    "web_page": ("\n<html><table><tr><td>1</td></tr></table></html>", {}, ("HTML",)),
    "gzip_twice": (gzip.compress(gzip.compress(TABLE.encode())), {}, ("a gzip archive in it",)),
    "gzip_with_a_tail": (gzip.compress(TABLE.encode()) + b"tail", {}, ("a damaged archive",)),
    "picture": (b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR", {}, ("no text",)),
    "packed_pickle": (gzip.compress(b"\x80\x04\x95\x10\xff\xfe"), {}, ("is no text",)),
    "one_quote": ('"', {}, ("holds no cell",)),
    "quote_never_closed": (TABLE + '"', {}, ("a quote is opened and not closed",)),
    "a_hundred_thousand_columns": ("1," * 100_000 + "0\n", {}, ("at most 65536 columns",)),
    "drop_and_keep": (TABLE, {"drop": "a", "keep": "a"}, ("column 'a' is both drop and keep",)),
    "n_classes_text": (TABLE, {"n_classes": "2"}, ("n_classes is '2'",)),
    "n_classes_fraction": (TABLE, {"n_classes": 2.5}, ("n_classes is 2.5",)),
    "n_classes_huge": (TABLE, {"n_classes": 10**9}, ("n_classes is 1000000000", "at most")),
}  # fmt: skip


def written(folder, name, content):
    path = folder / f"{name}.csv"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


@pytest.mark.parametrize("name", READ)
def test_what_is_clear_is_read_as_it_is_meant_and_said(tmp_path, name):
    content, options, words = READ[name]
    found = ocp.read_data(written(tmp_path, name, content), **options)
    said = " | ".join((found.says, *found.cautions))
    for word in words:
        assert word in said
    assert len(found.labels) == N
    if words[0] in (TWO, BARE) and name != "true_and_false_as_inputs":
        assert np.array_equal(found.inputs, X) and np.array_equal(found.labels, Y)


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_not_clear_is_refused_with_what_helps(tmp_path, name):
    content, options, words = REFUSED[name]
    path = written(tmp_path, name, content)
    with pytest.raises(ValueError, match=r".") as refusal:
        ocp.read_data(path, **options)
    for word in words:
        assert word in str(refusal.value)


def arff_rows(cells):
    return "".join(",".join(cells(i)) + "\n" for i in range(N))


def test_arff_may_be_packed_and_in_any_encoding_and_its_dates_are_no_numbers(tmp_path):
    body = arff_rows(lambda i: (A[i], B[i], "xy"[Y[i]]))
    (tmp_path / "a.arff.gz").write_bytes(gzip.compress((ARFF + body).encode()))
    (tmp_path / "b.arff").write_bytes(("% Größe\n" + ARFF + body).encode("latin-1"))
    dates = ARFF.replace("a numeric", "a date yyyy-MM-dd")
    dates += arff_rows(lambda i: (f"2020-01-{i + 1:02d}", B[i], "xy"[Y[i]]))
    (tmp_path / "c.arff").write_text(dates)
    for found in (
        ocp.read_data(tmp_path / "a.arff.gz"),
        ocp.read_data(tmp_path / "b.arff", encoding="latin-1"),
    ):
        assert np.array_equal(found.inputs, X) and found.classes == ("x", "y")
    for name, options, words in (
        ("b.arff", {}, "--encoding"),
        ("c.arff", {}, "found '2020-01-01'; wanted a number"),
        ("b.arff", {"separator": ";"}, "separator is ';', but the table is no CSV"),
    ):
        with pytest.raises(ValueError, match=words):
            ocp.read_data(tmp_path / name, **options)


def test_frames_are_read_as_the_same_table_from_a_file_is(tmp_path):
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame({"a": X[:, 0], "b": X[:, 1], "label": Y})
    text = np.array(["lo", "hi"])[Y]
    first = frame.index != 3
    for changed in (
        frame,
        frame.astype({"label": "Int64", "a": "Float64"}),
        frame.assign(label=frame.label.astype("uint64")),
        frame.set_index([pandas.Index(range(N)), pandas.Index(range(N))]),
        frame.assign(a=frame.a.astype(object)),
    ):
        found = ocp.read_data(changed)
        assert np.array_equal(found.inputs, X) and np.array_equal(found.labels, Y)
    for label in (pandas.Categorical(text, categories=["lo", "hi"]), pandas.array(text, "string")):
        assert ocp.read_data(frame.assign(label=label)).classes == ("hi", "lo")
    assert (
        "left out: the index label" in ocp.read_data(frame.assign(kind=Y).set_index("label")).says
    )
    for changed, words in (
        (frame.assign(b=pandas.date_range("2020", periods=N)), "--drop b"),
        (frame.assign(label=np.array(["", "x"])[Y]), "column 'label': found no value"),
        (frame.assign(label=np.array(["nan", "x"])[Y]), "column 'label': found no value"),
        (frame.assign(b=(frame.b > 0).astype("boolean").where(first)), "row 3, column 'b'"),
        (frame.assign(a=frame.a.astype("Float64").where(first)), "row 3, column 'a'"),
        (frame.sample(frac=1, random_state=0).reset_index(), "--drop index"),
        (frame[["label"]], "there is one column"),
        (frame.iloc[:0], "wanted samples"),
    ):
        with pytest.raises(ValueError, match=words):
            ocp.read_data(changed)
    dated = frame.assign(day=pandas.date_range("2020", periods=N))
    assert np.array_equal(ocp.read_data(dated, drop="day", label="label").inputs, X)
    with pytest.raises(ValueError, match="separator is ';'"):
        ocp.read_data(frame, separator=";")


def test_pairs_of_every_type_are_the_same_problem():
    pandas, sparse = pytest.importorskip("pandas"), pytest.importorskip("scipy.sparse")
    torch = pytest.importorskip("torch")
    frame = pandas.DataFrame(X, columns=["a", "b"])
    masked = np.ma.array(X, mask=np.zeros_like(X, bool))
    for inputs in (
        X, X.tolist(), frame, masked, sparse.csr_matrix(X),
        torch.tensor(X, requires_grad=True), [torch.tensor(row) for row in X],
    ):  # fmt: skip
        for labels in (Y, Y.tolist(), Y[:, None], pandas.Series(Y), torch.tensor(Y), np.eye(2)[Y]):
            found = ocp.read_data((inputs, labels))
            assert np.array_equal(found.inputs, X) and np.array_equal(found.labels, Y)
    assert ocp.read_data((torch.tensor(X).bfloat16(), Y)).inputs.shape == (N, 2)
    hidden = np.ma.array(X, mask=X > 1)
    for inputs, labels, words in (
        (hidden, Y, "is nan; wanted a number"),
        ([[1.0, 2.0], [3.0]], [0, 1], "inputs are list, no array"),
        (Y, X, "labels have shape"),
        (X, np.array(["", "b"])[Y], "is empty; wanted a class"),
        (frame.assign(b="x"), Y, "row 0, column 'b': found 'x'"),
    ):
        with pytest.raises(ValueError, match=words):
            ocp.read_data((inputs, labels))


def test_holes_of_the_held_out_part_are_named_and_left_out():
    holes = X.copy()
    holes[3, 0] = np.nan
    arrays = {"x_train": X, "y_train": Y, "x_test": holes, "y_test": Y}
    with pytest.raises(ValueError, match=r"test inputs\[3, 0\] is nan.*--drop-missing"):
        ocp.read_data(arrays)
    found = ocp.read_data(arrays, drop_missing=True)
    assert "23 samples held out; 1 test row with holes left out" in found.says
    assert len(found.labels) == N


def test_an_archive_of_a_folder_holds_one_table(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("d/", "")
        archive.writestr("d/a.csv", TABLE)
        archive.writestr("__MACOSX/d/._a.csv", b"\0\5\26\7")
    assert np.array_equal(ocp.read_data(tmp_path / "a.zip").inputs, X)


def test_the_line_in_the_file_is_named_below_rows_that_were_left_out(tmp_path):
    lines = ["a,b,label", *(f"{A[i]},{B[i]},{Y[i]}" for i in range(N))]
    lines[9] = "1.5,abc,0"
    lines.insert(4, ",,")
    with pytest.raises(ValueError, match="line 11, column 'b': found 'abc'"):
        ocp.read_data(written(tmp_path, "a", "\n".join(lines)))


def test_a_header_longer_than_what_is_looked_at_is_read_whole(tmp_path):
    names = [f"measurement_{j:06d}" for j in range(4000)]
    path = tmp_path / "wide.csv"
    lines = [",".join([*names, "label"]), *(",".join(["1.5"] * 4000 + [c]) for c in "0101")]
    path.write_text("\n".join(lines))
    assert len(lines[0]) > 1 << 16
    assert ocp.read_data(path).columns == tuple(names)


@pytest.mark.parametrize("line", ["a" + ".a" * 100_000 + " = 1", f"[{'a . ' * 100_000}a]"])
def test_a_key_of_a_hundred_thousand_parts_is_refused_at_once(tmp_path, line):
    path = tmp_path / "p.toml"
    path.write_text(line)  # tomllib takes minutes for it
    with pytest.raises(ValueError, match="a key of the TOML has more than 50 parts"):
        ocp.load_problem(path)
