"""What every pytest-benchmark table says of its host, and its rows."""

import json
import platform


def host() -> str:
    """The machine's kind, for a row's extra_info."""
    return f"{platform.machine()}, {platform.system()}"


def rows_and_host(path: str) -> tuple[list[dict], str]:
    """Return the rows of a pytest-benchmark JSON file, "seconds" their median where the row holds
    none, and the sentence on host and versions."""
    with open(path) as file:
        content = json.load(file)
    rows = [{"seconds": b["stats"]["median"], **b["extra_info"]} for b in content["benchmarks"]]
    cpu = content["machine_info"]["cpu"]["brand_raw"]
    versions = ", ".join(f"{name} {version}" for name, version in rows[0]["versions"].items())
    return rows, f"Host: {cpu}, {rows[0]['host']}; one thread.  Versions: {versions}"
