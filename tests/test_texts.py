"""Files, commands and names that README, CONTRIBUTING and the other texts mention are there."""

import importlib
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
ROOMS = ("ocp", "nn_baseline", "verification")
BENCHMARKS = ROOT / "tests" / "benchmarks"
TEXTS = [
    *sorted(ROOT.glob("*.md")),
    *sorted((ROOT / "examples").rglob("*.md")),
    *sorted(BENCHMARKS.glob("*.md")),
    *sorted(ROOT.glob("docs/**/*.md")),
]
#: words that stand for what the reader puts there
PLACEHOLDER = re.compile(r"(?<![A-Z])(NAME|FILE|FOLDER|STUDY)(?![A-Z])")
ENDINGS = r"(?:py|md|ipynb|csv|json|toml|cfg|cff|yaml|png|pdf|safetensors)"
#: a folder with its slash, a file with its ending, or a path of several parts
FILE = rf"[\w.*-]+(?:/[\w.*-]+)*(?:/|\.{ENDINGS})|[\w.-]+(?:/[\w.-]+)+"


def prose(text: Path) -> str:
    return re.sub(r"```.*?```", "", text.read_text(), flags=re.S)


def commands(text: Path) -> list[str]:
    """What follows `python` in shell blocks, in indented lines and in backticks."""
    content = text.read_text()
    blocks = re.findall(r"```sh\n(.*?)```", content, flags=re.S)
    lines = "\n".join(blocks).replace("\\\n", " ").splitlines()
    lines += re.findall(r"^    (.*python3? .*)$", content, flags=re.M)
    lines += re.findall(r"`([^`\n]*python3? [^`]*)`", prose(text))
    parts = (part for line in lines for part in line.split(" #")[0].split("&&"))
    found = (re.search(r"\bpython3? (.*)", " ".join(part.split())) for part in parts)
    return [match[1] for match in found if match]


def source(place: Path) -> str:
    files = sorted(place.rglob("*.py")) if place.is_dir() else [place]
    return "\n".join(file.read_text() for file in files)


@pytest.fixture(params=TEXTS, ids=lambda path: str(path.relative_to(ROOT)))
def text(request):
    return request.param


def test_files_and_folders_are_there(text):
    written = source(ROOT / "examples")
    for name in re.findall(rf"`({FILE})`", prose(text)):
        if PLACEHOLDER.search(name) or name.startswith("output/"):
            continue
        seen = [place for place in (ROOT, text.parent) if list(place.glob(name))]
        if "/" not in name:  # a file that was named in full before, or one that an example writes
            folders = ("examples", "tests", *ROOMS)
            seen += [folder for folder in folders if list((ROOT / folder).rglob(name))]
        assert seen or f'"{name}"' in written, name


def test_links_and_pictures_lead_somewhere(text):
    content = text.read_text()
    headings = re.findall(r"^#+ (.*)$", content, flags=re.M)
    anchors = {re.sub(r"[^\w -]", "", h.lower()).replace(" ", "-") for h in headings}
    for target in re.findall(r"\]\(([^)\s]+)\)", content):
        if target.startswith("#"):
            assert target[1:] in anchors
        elif "://" not in target:
            assert (text.parent / target).exists(), target


def test_commands_run_programs_with_options_that_they_have(text):
    for command in commands(text):
        of_a_module = re.match(r"-m (\w+)", command)
        name = of_a_module[1] if of_a_module else command.split()[0]
        if name in ("venv", "pytest"):
            assert all((ROOT / file).exists() for file in re.findall(r"\S+\.py", command)), command
            continue
        place = ROOT / name
        assert place.exists(), command
        known = source(place)
        if place.parent.name == "studies":
            known += source(place.parent / "study.py")
        rest = command.split(name, 1)[1]
        for option in re.findall(r"(?<!\S)--([a-z][\w-]*)", rest):
            field = option.replace("-", "_")  # of a dataclass from which options are made
            there = re.search(rf"""["'](--{option}|{field})["']|^    {field}: """, known, re.M)
            assert there or option == "help", f"--{option} in {command}"
        verbs = re.match(r" \{([\w,]+)\}| ([a-z]+)(?= |$)", rest)
        for verb in (verbs[1] or verbs[2]).split(",") if verbs and of_a_module else []:
            assert f'"{verb}"' in known, f"{verb} in {command}"


def test_names_of_the_packages_are_there(text):
    named = re.findall(r"`((?:ocp|nn_baseline|verification)(?:\.\w+)+)(?:\(.*?\))?`", prose(text))
    for name in named:
        room, *parts = name.split(".")
        found = importlib.import_module(room)
        for part in parts:
            if not hasattr(found, part):
                found = importlib.import_module(f"{found.__name__}.{part}")
            else:
                found = getattr(found, part)


def test_the_layout_names_the_folders():
    layout = (ROOT / "README.md").read_text().split("## Layout\n")[1]
    named, parent = set(), ""
    for line in layout.split("```")[1].splitlines():
        for name in re.findall(r"(?<![\w/])([a-z_]+)/", line):
            parent, path = (name, name) if line.startswith(name) else (parent, f"{parent}/{name}")
            named.add(path)
    folders = {path.parent.relative_to(ROOT).as_posix() for room in ROOMS
               for path in (ROOT / room).rglob("*.py")}  # fmt: skip
    assert folders <= named
    assert all((ROOT / path).is_dir() for path in named)
    statement = layout.split("\nThe statement is ")[1].split("\n`import ocp`")[0]
    files = {name.removeprefix("ocp.") for name in re.findall(r"`([\w.]+)`", statement)}
    assert files == {path.stem for path in (ROOT / "ocp").glob("[a-z]*.py")}
