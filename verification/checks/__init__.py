"""The names that --only takes; no imports, so that --help is immediate."""

CHECKS = (
    "statement",
    "first_order",
    "second_order",
    "geometry",
    "dissipativity",
    "turnpike",
    "reachability",
    "depth",
    "certificate",
    "gap",
    "diagnosis",
)
