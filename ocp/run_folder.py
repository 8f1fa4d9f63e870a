"""A run owns its folder: two at once are refused, one that was killed holds nothing.

The lock is the system's (flock) on `.lock` in the folder, so it ends with its process however that
ends.  The file is removed at the end of a run; one that is left by a kill means nothing.  Where
the file system knows no locks there is none.
"""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from . import temporary
from .outputs import Paths, check_folder

LOCK = ".lock"
_HELD = (errno.EWOULDBLOCK, errno.EAGAIN, errno.EACCES, errno.EDEADLK)


@contextlib.contextmanager
def claimed(folder: str | os.PathLike) -> Iterator[None]:
    """Own a folder, which is made if it is missing, and clear what a killed run began to write.

    Raises
    ------
    ValueError : another run is at work there
    OSError : the folder cannot be made or written
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / LOCK
    handle = _acquire(path)
    try:
        temporary.remove_stale(folder)
        yield
    finally:
        with contextlib.suppress(OSError):
            path.unlink()  # while it is held: who opens it later finds another file
        os.close(handle)


def check(
    name: str, folder: str | os.PathLike, files: Iterable[str], inputs: Paths | None = None
) -> None:
    """Refuse, before any work, a folder that a run could not write, as `outputs.check_folder`.

    A folder that is there is owned for the moment, as the names are tried.
    """
    there = bool(os.fspath(folder)) and os.path.isdir(folder)
    with claimed(folder) if there else contextlib.nullcontext():
        check_folder(name, folder, files, inputs)


def _acquire(path: Path) -> int:
    """Return the open file that holds the lock."""
    while True:
        handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            _lock(handle)
            if os.path.exists(path) and os.path.samestat(os.fstat(handle), os.stat(path)):
                return handle
        except OSError as error:
            os.close(handle)
            if error.errno in _HELD:
                raise ValueError(
                    f"{path.parent} is in use by another run; wanted another folder, or its end"
                ) from None
            raise
        os.close(handle)  # the run that held it ended and took its file away


def _lock(handle: int) -> None:
    try:
        import fcntl
    except ImportError:  # Windows
        import msvcrt

        msvcrt.locking(handle, msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined]
        return
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno not in (errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP):
            raise
