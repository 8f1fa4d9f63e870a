"""What a proof will take, before it begins: processor seconds of one thread, and bytes.

Counts of operations times rates measured on one machine (x86-64, OpenBLAS, python-flint 0.9);
within a factor of 2 there, which is what a limit of minutes and gigabytes needs.
"""

from __future__ import annotations

from dataclasses import dataclass

from ocp.problem import SCHEMES, Problem

from .midrad_hessian import CHUNK_BYTES, bytes_per_sample
from .model import end_slices

MAX_SECONDS = 1800.0
MAX_BYTES = 8 * 2.0**30


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """An estimate.  seconds : of one thread;  bytes : at the peak"""

    seconds: float
    bytes: float

    @property
    def too_much(self) -> bool:
        return self.seconds > MAX_SECONDS or self.bytes > MAX_BYTES

    def __str__(self) -> str:
        return f"about {self.seconds / 60:.1f} min and {self.bytes / 2**30:.1f} GiB"


#: how the limits are said
LIMITS = f"{MAX_SECONDS / 60:.0f} min and {MAX_BYTES / 2**30:.0f} GiB"


def of_matrices(problem: Problem) -> Cost:
    """Estimate `by_matrices`: four gradients in balls, three Hessians over boxes and a float one,
    thirty d^3 operations of BLAS."""
    n, m, d = problem.width, problem.layer_size, problem.n_decision
    N, n_d, S = problem.depth, problem.n_samples, len(SCHEMES[problem.scheme][0])
    flops = 3.0 * n_d * n * (N * N * m * (m + n) + 6 * S * N * (n + m) ** 2)
    elementary = N * S * n_d * (3e-6 * n + 1.5e-6 * problem.n_classes)
    seconds = 4 * _gradient(problem) + 3.3 * (flops / 1.5e10 + elementary) + 30.0 * d**3 / 3e10
    chunk = min(max(CHUNK_BYTES, bytes_per_sample(problem)), n_d * bytes_per_sample(problem))
    return Cost(seconds=seconds, bytes=104.0 * d * d + chunk)


def of_balls(problem: Problem) -> Cost:
    """Estimate `by_balls` at 128 bits: six Hessians, products and inverses."""
    n, m, d = problem.width, problem.layer_size, problem.n_decision
    N, n_d, S = problem.depth, problem.n_samples, len(SCHEMES[problem.scheme][0])
    _, readout = end_slices(problem)
    local = (n + m + readout.stop - readout.start) ** 2
    hessian = N * S * n_d * (1e-4 + 4e-6 * local) + 4e-8 * n_d * n * N * N * m * (m + n)
    balls = 6.0 * d * d + n_d * (5.0 * local + n * d)
    return Cost(seconds=6 * hessian + 1.2e-7 * d**3, bytes=130.0 * balls)


def _gradient(problem: Problem) -> float:
    """Seconds of a gradient in balls of 128 bits."""
    n, n_c = problem.width, problem.n_classes
    points = problem.n_samples * problem.depth * len(SCHEMES[problem.scheme][0])
    return points * (5e-6 + 4e-6 * n + 1e-7 * n * n + 4.5e-6 * n_c)
