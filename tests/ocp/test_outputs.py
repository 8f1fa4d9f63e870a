"""What is written goes through links, pipes and devices, and never over an input."""

import os
import stat
import subprocess
import sys
import threading

import pytest

from ocp.atomic import STDOUT, check_name, write_atomically
from ocp.exits import printable, run, sentence
from ocp.outputs import check_folder, check_outputs, inputs_of, path, to_stdout

LONG = "n" * 255


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    "name",
    [LONG, "a\nb", "[red]x", "[bold]", "a\x1b[31m", os.fsdecode(b"\xff\xfe"), "a'\"\\", "-"],
)
def test_any_name_that_the_system_takes_is_written(name):
    check_outputs({"--output": name})
    assert os.listdir() == []
    write_atomically(name, b"one")
    check_outputs({"--output": name})
    write_atomically(name, b"two")
    with open(name, "rb") as file:
        assert file.read() == b"two"
    assert os.listdir(b".") == [os.fsencode(name)]


@pytest.mark.parametrize("name", ["n" * 256, "a\0b", "a\ud800", "", "no/file", "."])
def test_a_name_that_the_system_refuses_is_refused_before_the_work(name):
    with pytest.raises((ValueError, OSError)) as refused:
        check_outputs({"--output": name})
    assert len(sentence(refused.value).splitlines()) == 1
    sentence(refused.value).encode()


def test_a_symlink_stays_and_its_file_is_replaced_with_its_permissions(folder):
    (folder / "there").mkdir()
    kept = folder / "there" / "kept"
    kept.write_bytes(b"before")
    kept.chmod(0o640)
    (folder / "there" / "second").symlink_to("kept")
    (folder / "first").symlink_to("there/second")
    for name in ("first", "there/second"):
        check_name(name)
        write_atomically(name, name.encode())
        assert os.path.islink(name) and kept.read_bytes() == name.encode()
    assert stat.S_IMODE(kept.stat().st_mode) == 0o640
    (folder / "dangling").symlink_to("there/new")
    check_name("dangling")
    assert not os.path.exists("there/new")
    write_atomically("dangling", b"new")
    assert os.path.islink("dangling") and (folder / "there" / "new").read_bytes() == b"new"
    (folder / "loop").symlink_to("loop")
    with pytest.raises(OSError, match="loop"):
        check_name("loop")


def test_a_hard_link_keeps_the_old_content(folder):
    (folder / "a").write_bytes(b"old")
    os.link("a", "b")
    write_atomically("a", b"new")
    assert (folder / "a").read_bytes() == b"new" and (folder / "b").read_bytes() == b"old"


def test_a_pipe_is_written_into_and_stays():
    os.mkfifo("pipe")
    check_name("pipe")
    found = []

    def read():
        with open("pipe", "rb") as file:
            found.append(file.read())

    reader = threading.Thread(target=read)
    reader.start()
    write_atomically("pipe", b"x" * 200_000)
    reader.join(10)
    assert found == [b"x" * 200_000] and stat.S_ISFIFO(os.stat("pipe").st_mode)


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full")
def test_devices_are_written_into_and_stay():
    for name in ("/dev/null", "/dev/full"):
        check_outputs({"--json": name})
    write_atomically("/dev/null", b"gone")
    with pytest.raises(OSError, match="No space left"):
        write_atomically("/dev/full", b"x")
    assert stat.S_ISCHR(os.stat("/dev/null").st_mode) and stat.S_ISCHR(os.stat("/dev/full").st_mode)
    check_outputs({"--json": "/dev/null", "--latex": "/dev/null"})


@pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="no /proc")
def test_an_open_descriptor_is_written_where_it_stands(folder):
    with open("log", "wb") as file:
        file.write(b"before ")
        file.flush()
        write_atomically(f"/dev/fd/{file.fileno()}", b"middle ")
        file.write(b"after")
    assert (folder / "log").read_bytes() == b"before middle after"
    with open("log", "rb") as file, pytest.raises(OSError, match="Bad file"):
        check_name(f"/proc/self/fd/{file.fileno()}")
    code = (
        "import sys; from ocp.atomic import *; print('words'); check_name(STDOUT);"
        "write_atomically(STDOUT, b'result '); print('end')"
    )
    with open("out", "wb") as out:
        subprocess.run([sys.executable, "-c", code], stdout=out, check=True)
    assert (folder / "out").read_bytes() == b"words\nresult end\n"


def test_a_dash_is_standard_output(capsysbinary):
    assert path("-") == STDOUT and to_stdout(path("-")) and not to_stdout(path("./-"), None)
    write_atomically(path("-"), b"\x00binary")
    assert capsysbinary.readouterr().out == b"\x00binary"
    with pytest.raises(ValueError, match=r"--latex is /dev/stdout, which is --json"):
        check_outputs({"--json": path("-"), "--latex": path("-")})


def test_what_is_marked_read_only_is_refused_and_not_touched(folder):
    (folder / "a").write_bytes(b"kept")
    (folder / "a").chmod(0o444)
    with pytest.raises(PermissionError):
        check_outputs({"--output": "a"})
    assert (folder / "a").read_bytes() == b"kept"


def test_a_file_that_cannot_be_renamed_over_is_written_in_place(folder, monkeypatch):
    (folder / "a").write_bytes(b"old")

    def refuse(*names):
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "replace", refuse)
    write_atomically("a", b"new")
    assert (folder / "a").read_bytes() == b"new" and os.listdir() == ["a"]
    with pytest.raises(PermissionError):
        write_atomically("b", b"new")
    assert os.listdir() == ["a"]


def test_an_output_that_is_an_input_is_refused_under_every_name(folder):
    (folder / "in.csv").write_bytes(b"1,0\n")
    (folder / "p.toml").write_text('[data]\nfile = "in.csv"\n')
    (folder / "p.json").write_text('{"data": {"file": "in.csv"}}')
    (folder / "sub").mkdir()
    os.link("in.csv", "hard.csv")
    (folder / "soft.csv").symlink_to("in.csv")
    (folder / "other.csv").write_bytes(b"1,0\n")
    for source in ("p.toml", "p.json"):
        for name in (source, "in.csv", "hard.csv", "soft.csv", "sub/../in.csv"):
            with pytest.raises(ValueError, match="wanted another file"):
                check_outputs({"--output": name}, inputs_of(source))
            with pytest.raises(ValueError, match="wanted another file"):
                check_folder("--output", ".", ["a", name], inputs_of(source))
        check_outputs({"--output": "other.csv"}, inputs_of(source))
    with pytest.raises(ValueError, match="which is --data"):
        check_outputs({"--json": "hard.csv"}, inputs_of("other.csv", "in.csv"))
    with pytest.raises(ValueError, match=r"--json is sub/\.\./new, which is --output"):
        check_outputs({"--output": "new", "--json": "sub/../new"})
    assert (folder / "in.csv").read_bytes() == b"1,0\n"


def test_a_folder_is_tried_and_nothing_of_the_trial_stays(folder):
    check_folder("--output", "one/two", ["a", "b"])
    check_folder("--output", ".", ["a"])
    assert os.listdir() == []
    (folder / "one").mkdir()
    (folder / "one" / "a").mkdir()
    (folder / "file").write_bytes(b"")
    for place, names in (("one", ["a"]), ("file", ["a"]), ("file/x", ["a"]), ("", ["a"]),
                         ("new", [LONG + "n"])):  # fmt: skip
        with pytest.raises((ValueError, OSError)):
            check_folder("--output", place, names)
    assert sorted(os.listdir()) == ["file", "one"]


def test_printable_shows_what_would_move_a_cursor_or_fail_to_be_encoded():
    assert printable("a [b] é 日") == "a [b] é 日"
    shown = printable("\x1b[31m\x07\x9b\r\n\u202e\u2028\ud800\udcff")
    assert shown == r"\x1b[31m\x07\x9b\r\n\u202e\u2028\ud800\udcff" and shown.isascii()
    assert sentence(OSError(2, "missing", "a\x1bb")) == r"a\x1bb: missing"
    assert sentence(OSError(2, "missing", b"\xff")) == r"\udcff: missing"


def test_what_is_refused_is_printed_escaped(capsys):
    def refuse():
        raise ValueError("\x1b[2J\ud800")

    assert run(refuse) == 2
    assert capsys.readouterr().err == "error: \\x1b[2J\\ud800\n"
