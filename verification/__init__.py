"""The judge: says what is true of a training file, and where possible proves it.

    report = verification.verify("solution.safetensors")
    report.require()

Names are loaded on first use: `python -m verification --help` starts at once.
"""

from __future__ import annotations

import importlib

from .checks import CHECKS

TYPE_CHECKING = False  # type checkers take it for true
if TYPE_CHECKING:
    from . import crosscheck
    from .api import json_text, verify, verify_content
    from .assertions import Assertion, assert_verified
    from .evaluation import alpha
    from .evaluation.minimisers import Minimisers
    from .evaluation.storage import available_storage
    from .report import Check, Finding, InconclusiveError, Report, Verdict, VerificationError

    # the twins of the registry: listing them here would be a second registry
    def __getattr__(name: str) -> Assertion: ...


_ASSERTIONS = tuple(f"assert_{check}" for check in CHECKS)
_HOME = {
    "api": ("json_text", "verify", "verify_content"),
    "report": ("Check", "Finding", "InconclusiveError", "Report", "Verdict", "VerificationError"),
    "assertions": ("assert_verified", *_ASSERTIONS),
    "evaluation.minimisers": ("Minimisers",),
    "evaluation.storage": ("available_storage",),
}
_MODULES = {"alpha": ".evaluation.alpha", "crosscheck": ".crosscheck"}
__all__ = [
    "CHECKS",
    "Check",
    "Finding",
    "InconclusiveError",
    "Minimisers",
    "Report",
    "VerificationError",
    "Verdict",
    "alpha",
    "assert_verified",
    "available_storage",
    "crosscheck",
    "json_text",
    "verify",
    "verify_content",
    *_ASSERTIONS,
]


if not TYPE_CHECKING:

    def __getattr__(name: str) -> object:
        if name in _MODULES:
            return importlib.import_module(_MODULES[name], __name__)
        for module, names in _HOME.items():
            if name in names:
                return getattr(importlib.import_module(f".{module}", __name__), name)
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
