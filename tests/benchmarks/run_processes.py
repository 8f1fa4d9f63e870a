"""Commands as forks and as processes of their own, and the processes that they leave."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
STUDIES = ROOT / "examples" / "studies"


class Forked:
    """A run in a fork of this process, which has imported what takes seconds."""

    def __init__(self, room: str, arguments: list[str], errors: Path) -> None:
        self.pid = os.fork()
        if self.pid:
            return
        code = 99
        try:
            os.setsid()
            with errors.open("w") as file, open(os.devnull, "w") as nowhere:
                os.dup2(file.fileno(), 2)
                os.dup2(nowhere.fileno(), 1)
                code = _main_of(room)(arguments)
        finally:
            os._exit(code)

    def poll(self) -> int | None:
        done, status = os.waitpid(self.pid, os.WNOHANG)
        return os.waitstatus_to_exitcode(status) if done else None

    def wait(self) -> int:
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])


def _main_of(room: str) -> Callable[[list[str]], int]:
    from ocp import exits, interrupts

    interrupts.listen()
    if room.endswith(".py"):
        import weights

        return lambda arguments: exits.run(lambda: weights.main(arguments))
    if room == "ocp":
        from ocp.__main__ import main
    else:
        from nn_baseline.__main__ import main
    return main


def load() -> None:
    """Import what the forks share; BLAS and torch on one thread, or a fork would hang."""
    sys.path[:0] = [str(ROOT), str(STUDIES)]
    import torch

    torch.set_num_threads(1)
    import weights  # noqa: F401

    import nn_baseline.commands  # noqa: F401
    import ocp.command_line.verbs  # noqa: F401
    from ocp import figures  # noqa: F401


class Started(subprocess.Popen):
    """A run by its command line, in a session of its own."""

    def __init__(self, room: str, arguments: list[str], errors: Path) -> None:
        where = [str(_file(room))] if room.endswith(".py") else ["-m", room]
        with errors.open("w") as file:
            super().__init__(
                [sys.executable, *where, *arguments], cwd=ROOT, start_new_session=True,
                stdout=subprocess.DEVNULL, stderr=file, env=ENVIRONMENT,
                # a script in the background of a shell ignores Ctrl-C, and so would this
                preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
            )  # fmt: skip


ENVIRONMENT = os.environ | {
    **dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1"),
    "PYTHONPATH": str(ROOT),
    "MPLBACKEND": "Agg",
}


def _file(room: str) -> Path:
    return STUDIES / room if (STUDIES / room).exists() else STUDIES.parent / room


def session_of(pid: int) -> list[int]:
    """The processes of a session that still run."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            fields = path.read_text().rpartition(")")[2].split()
            if int(fields[3]) == pid and fields[0] not in "ZX":
                found.append(int(path.parent.name))
    return found


def until(condition: Callable[[], bool], seconds: float) -> bool:
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(0.004)
    return True
