"""Imported where python-flint is hidden: prints which theorems are still proved of a minimum."""

from steered import lines_of
from zoo import minimum

from verification.report import Verdict

content = minimum(depth=6, r=1e-3)
for check in ("dissipativity", "turnpike", "depth", "gap"):
    for name, line in lines_of(content, check).items():
        if line.verdict is Verdict.PROVED:
            print(name)
print(
    "python-flint" if "python-flint" in lines_of(content, "gap")["gap.lower_bound"].message else ""
)
