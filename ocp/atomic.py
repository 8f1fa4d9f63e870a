"""Write a file whole or not at all; through links, pipes and devices, never in their place."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import stat
import sys
import tempfile
from pathlib import Path

from .temporary import prefix, remove_stale_once

#: standard output as a path; the name is known to `write_atomically` on every system
STDOUT = Path("/dev/stdout")
_DESCRIPTORS = re.compile(r"/proc/(\d+)(/task/\d+)?/fd")
#: a rename that the folder refuses though the file itself may be written: mounted alone, or in a
#: folder that takes no new names
_NO_RENAME = (errno.EACCES, errno.EPERM, errno.EROFS, errno.EBUSY)


def write_atomically(path: str | os.PathLike, content: bytes) -> None:
    """Write to a temporary name in the same folder, flush to disk, then rename.

    An interruption or a full disk leaves the old file, or none, and no temporary one.  A symlink
    stays: the file it leads to is replaced, with its permissions.  Pipes and devices (/dev/stdout,
    /dev/null, /dev/fd/63) are written into.  Another hard link to the old file keeps the old
    content: a rename makes a new file.  A file that may be written in a folder that may not is
    overwritten in place, the only case that an interruption can leave half done.

    Raises
    ------
    OSError : the folder is missing or not writable, or the disk is full
    """
    try:
        place = target(path)
        if isinstance(place, int):
            _into_descriptor(place, content)
        elif _is_special(place):
            with open(place, "wb") as file:
                file.write(content)
        else:
            _replace(place, content)
    except OSError as error:
        if error.errno is not None and error.filename != os.fspath(path):
            raise OSError(error.errno, os.strerror(error.errno), os.fspath(path)) from None
        raise


def target(path: str | os.PathLike) -> str | int:
    """Return the name that a write to `path` ends at, links followed; for /dev/stdout and its like
    the number of the open descriptor, which has no name that could be opened again at its place."""
    place = os.fspath(path)
    for _ in range(41):  # as many links as Linux follows, and one
        folder, name = os.path.split(os.path.abspath(place))
        folder = os.path.realpath(folder)
        if place == str(STDOUT):
            return 1
        if found := _DESCRIPTORS.fullmatch(folder):
            return int(name) if int(found[1]) == os.getpid() and name.isdigit() else place
        place = os.path.join(folder, name)
        if not os.path.islink(place):
            return place
        place = os.path.join(folder, os.readlink(place))
    raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), os.fspath(path))


def check_name(path: str | os.PathLike) -> None:
    """Raise OSError now rather than after minutes of work if `path` cannot be written.

    The very name is tried, and nothing is left behind; what is there is not touched.
    """
    place = target(path)
    if isinstance(place, int):
        try:
            os.write(place, b"")
        except OSError as error:
            raise OSError(error.errno, os.strerror(error.errno or 0), os.fspath(path)) from None
        return
    try:
        mode = os.stat(place).st_mode
    except FileNotFoundError:
        try:
            os.close(os.open(place, os.O_WRONLY | os.O_CREAT | os.O_EXCL))
        except FileExistsError:  # another process was faster
            return
        os.unlink(place)
        return
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), os.fspath(path))
    # root may write what is marked read-only; the mark was set by somebody who meant it
    if not os.access(place, os.W_OK) or not mode & 0o222:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), os.fspath(path))


def _is_special(place: str) -> bool:
    """A pipe, a device or a descriptor of another process, which no rename may replace."""
    try:
        mode = os.stat(place).st_mode
    except FileNotFoundError:
        return False
    return (not stat.S_ISREG(mode) and not stat.S_ISDIR(mode)) or os.path.islink(place)


def _into_descriptor(number: int, content: bytes) -> None:
    stream = {1: sys.stdout, 2: sys.stderr}.get(number)
    if stream is not None:
        stream.flush()
    try:
        replaced = stream is not None and stream.fileno() != number
    except (OSError, ValueError):
        replaced = True
    if stream is not None and replaced:  # somebody reads in memory what goes to standard output
        if hasattr(stream, "buffer"):
            stream.buffer.write(content)
        else:
            stream.write(content.decode())
        stream.flush()
        return
    with contextlib.suppress(BrokenPipeError):  # the reader has left, and wants no more
        left = memoryview(content)
        while left:
            left = left[os.write(number, left) :]


def _replace(place: str, content: bytes) -> None:
    try:
        mode = stat.S_IMODE(os.stat(place).st_mode)
    except FileNotFoundError:
        umask = os.umask(0)
        os.umask(umask)
        mode = 0o666 & ~umask  # mkstemp gives 0600, a plain open would not
        there = False
    else:
        there = True
    temporary = None
    try:
        folder = os.path.dirname(place)
        remove_stale_once(folder)
        handle, temporary = tempfile.mkstemp(prefix=prefix(), suffix=".tmp", dir=folder)
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, mode)
        os.replace(temporary, place)
    except BaseException as error:
        if temporary is not None:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(temporary)
        refused = isinstance(error, OSError) and error.errno in _NO_RENAME
        if not (refused and there and os.access(place, os.W_OK)):
            raise
        with open(place, "wb") as file:
            file.write(content)
