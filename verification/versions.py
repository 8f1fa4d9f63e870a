"""Versions that a machine-readable report records."""

from __future__ import annotations

import importlib.metadata
import platform


def versions() -> dict[str, str]:
    """Return the versions of Python and of the packages a verdict rests on."""
    found = {"python": platform.python_version()}
    for name in ("turnpike-ocp", "numpy", "scipy", "safetensors", "python-flint"):
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[name] = "not installed"
    return found
