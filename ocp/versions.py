"""Versions, as reports and files record them."""

from __future__ import annotations

import functools
import importlib.metadata
import platform


def versions(*distributions: str) -> dict[str, str]:
    """Return the versions of Python, this project, NumPy, SciPy and the named distributions."""
    names = ("turnpike-ocp", "numpy", "scipy", *distributions)
    return {"python": platform.python_version()} | {name: _version(name) for name in names}


@functools.cache  # a distribution's metadata takes 10 ms to parse, as long as ten Newton steps
def _version(distribution: str) -> str:
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"
