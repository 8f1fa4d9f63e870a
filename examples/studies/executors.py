"""Where the rows of a study are computed: own processes, or a Dask cluster."""

from __future__ import annotations

import concurrent.futures
import contextlib
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

from ocp.workers import pool


@contextlib.contextmanager
def started(workers: int, cluster: str | None) -> Iterator[concurrent.futures.Executor]:
    """Own processes, or Dask's executor: the scheduler at an address, or a local one."""
    if not cluster:
        with pool(workers) as own:
            yield own
        return
    try:
        from distributed import Client, LocalCluster
    except ImportError:
        raise ImportError("--cluster wants Dask: pip install 'turnpike-ocp[cluster]'") from None
    elsewhere = cluster != "local"
    with contextlib.ExitStack() as stack:
        if not elsewhere:
            cluster = stack.enter_context(
                LocalCluster(n_workers=workers, threads_per_worker=1, dashboard_address=None)
            )
        client = stack.enter_context(Client(cluster))
        try:
            client.wait_for_workers(1, timeout=60)
        except TimeoutError:
            raise OSError(f"the scheduler {cluster} has no worker after 60 s") from None
        if elsewhere:
            _upload(client)
        yield client.get_executor(pure=False)


def _upload(client) -> None:
    """A cluster elsewhere has the three packages installed, but not the files of this folder."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "turnpike_studies.zip"
        with zipfile.ZipFile(path, "w") as archive:
            for file in sorted(Path(__file__).parent.glob("*.py")):
                archive.write(file, file.name)
        client.upload_file(str(path))
