"""The judge: says what is true of a training file, and where possible proves it.

    report = verification.verify("solution.safetensors")
    report.require()

Names are loaded on first use: `python -m verification --help` starts at once.
"""

from __future__ import annotations

import importlib

_HOME = {
    "api": ("CHECKS", "verify", "verify_content"),
    "report": ("Check", "Finding", "Report", "Verdict", "VerificationError"),
    "assertions": (
        "assert_statement",
        "assert_first_order",
        "assert_second_order",
        "assert_geometry",
        "assert_dissipativity",
        "assert_turnpike",
        "assert_depth",
        "assert_certificate",
        "assert_verified",
    ),
}
__all__ = sorted(name for names in _HOME.values() for name in names)


def __getattr__(name: str) -> object:
    for module, names in _HOME.items():
        if name in names:
            return getattr(importlib.import_module(f".{module}", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
