"""Names of temporary files that say whose they are, and the removal of those that nobody owns.

A process that is killed while it writes leaves its temporary file; the next one that writes into
the folder removes it.  Only what a process of this machine began that is no longer there.
"""

from __future__ import annotations

import contextlib
import functools
import os
import platform
import re
import time
import zlib
from pathlib import Path

#: short, because the name that is wanted may be as long as a name can be
_BEGIN = ".turnpike-"
_NAME = re.compile(re.escape(_BEGIN) + r"([0-9a-f]{8})-(\d{1,10})-.{8}\.tmp")


def prefix() -> str:
    """Return how the names of this process's temporary files begin: machine and process."""
    return f"{_BEGIN}{_machine()}-{os.getpid()}-"


def remove_stale(folder: str | os.PathLike[str]) -> None:
    """Remove the temporary files of processes of this machine that have ended.

    Those of other machines, which may share the folder, stay; so does what cannot be removed.
    """
    with contextlib.suppress(OSError), os.scandir(os.fspath(folder)) as entries:
        for entry in entries:
            found = _NAME.fullmatch(entry.name)
            if found is None or found[1] != _machine() or int(found[2]) == os.getpid():
                continue
            with contextlib.suppress(OSError):
                if not _began_before(int(found[2]), entry.stat(follow_symlinks=False).st_mtime):
                    os.unlink(entry.path)


@functools.cache
def remove_stale_once(folder: str) -> None:
    """As `remove_stale`, for the first write of a process into a folder."""
    remove_stale(folder)


@functools.cache
def _machine() -> str:
    """Eight digits for the machine since its start, or the container: process numbers are its."""
    parts = [platform.node()]
    with contextlib.suppress(OSError):
        parts.append(Path("/proc/sys/kernel/random/boot_id").read_text())
        parts.append(os.readlink("/proc/self/ns/pid"))
    return f"{zlib.crc32(' '.join(parts).encode()):08x}"


def _began_before(number: int, moment: float) -> bool:
    """Whether a process with this number runs and ran at that moment; unknown counts as yes."""
    try:
        os.kill(number, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    try:  # fields after the name, which may hold anything: state is the first, start the 20th
        fields = Path(f"/proc/{number}/stat").read_text().rpartition(")")[2].split()
        age = float(Path("/proc/uptime").read_text().split()[0])
        age -= int(fields[19]) / os.sysconf("SC_CLK_TCK")
    except (OSError, ValueError, IndexError):
        return True
    return fields[0] not in "ZX" and time.time() - age <= moment + 1.0
