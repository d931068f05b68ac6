"""How throughput scales with replicas: ratios of paired arms, efficiency, the Universal Scalability Law and its capacity forecast.

The law (Gunther): ``X(N) = a N / (1 + s (N - 1) + k N (N - 1))`` with ``a`` = throughput of one replica, ``s`` = contention,
``k`` = coherence. Three parameters need at least four different counts.
"""

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats
from scipy.optimize import OptimizeWarning, curve_fit

MINIMUM_POINTS = 4
CONFIDENCE = 0.95
DEVIATION = 0.25
"""How far the law may be from a measured throughput, as a share of the law's value."""
BOUNDS = ((0, 0, 0), (math.inf, 1, 1))
"""Of the law's parameters."""
EXTRAPOLATION = 2.0
"""How far beyond the largest measured count a prediction may reach, as a factor."""


class TooFewPoints(ValueError):
    """The data is not sufficient for an answer; the message says what is missing."""


@dataclass(frozen=True)
class Ratio:
    """The ratio between two replica counts over all pairs: its geometric mean, and an interval of the named kind."""

    value: float
    low: float
    high: float
    interval: str
    pairs: tuple[float, ...]


def ratio(pairs: Sequence[tuple[float, float]]) -> Ratio:
    """Ratio ``second / first`` over ``pairs`` of positive figures measured close together.

    One pair gives no interval, two or three give their range, four or more Student's interval over the pairs (never over
    seconds, since the seconds of one run are not independent). Raises ValueError if there is no pair or a figure is not positive.
    """
    if not pairs or any(first <= 0 or second <= 0 for first, second in pairs):
        raise ValueError("a ratio needs at least one pair of positive figures")
    ratios = tuple(second / first for first, second in pairs)
    logs = np.log(ratios)
    value = float(np.exp(logs.mean()))
    if len(ratios) == 1:
        return Ratio(value, value, value, "one pair: no interval", ratios)
    if len(ratios) < 4:
        return Ratio(value, min(*ratios, value), max(*ratios, value), f"range of {len(ratios)} pairs", ratios)
    factor = math.exp(stats.t.ppf((1 + CONFIDENCE) / 2, len(logs) - 1) * stats.sem(logs))
    return Ratio(value, value / factor, value * factor, f"{CONFIDENCE:.0%} interval over {len(ratios)} pairs", ratios)


def efficiency(speedup: float, base: int, replicas: int) -> float:
    """Speed-up divided by that of perfect scaling from ``base`` to ``replicas``."""
    return speedup / (replicas / base)


def usl(replicas: np.ndarray | float, single: float, contention: float, coherence: float) -> np.ndarray | float:
    """Predicted throughput, in the unit of ``single``."""
    return single * replicas / (1 + contention * (replicas - 1) + coherence * replicas * (replicas - 1))


@dataclass(frozen=True)
class Fit:
    """Parameters of the law with their standard errors, and parameter sets drawn from their joint uncertainty."""

    single: float
    contention: float
    coherence: float
    errors: tuple[float, float, float]
    draws: np.ndarray
    largest: int

    @property
    def peak(self) -> float:
        """The count beyond which more replicas reduce throughput (inf without coherence cost)."""
        return math.sqrt((1 - self.contention) / self.coherence) if self.coherence > 1e-9 else math.inf

    def interval(self, replicas: float) -> tuple[float, float]:
        """Confidence interval of the throughput with ``replicas``."""
        values = usl(replicas, *self.draws.T)
        tail = (1 - CONFIDENCE) / 2
        return float(np.quantile(values, tail)), float(np.quantile(values, 1 - tail))


def fit_usl(points: Sequence[tuple[int, float]]) -> Fit:
    """Least squares over ``points`` (replicas, throughput), with all three parameters at least 0.

    Raises TooFewPoints with fewer than four different counts, or if no parameters come close to all points.
    """
    counts = sorted({replicas for replicas, _ in points})
    if len(counts) < MINIMUM_POINTS:
        raise TooFewPoints(
            f"{len(counts)} replica count{'s' * (len(counts) != 1)} measured ({', '.join(map(str, counts))});"
            f" the scalability law has three parameters and needs {MINIMUM_POINTS}:"
            " ./counter bench -e '{\"bench_replicas\": [1, 2, 4, 8]}'"
        )
    x = np.array([replicas for replicas, _ in points], dtype=float)
    y = np.array([throughput for _, throughput in points], dtype=float)
    scale = y.max()
    if not scale:
        raise TooFewPoints("no request succeeded, so there is no throughput to which the scalability law could be fitted")
    start = (y[x == x.min()].mean() / x.min() / scale, 0.01, 0.0001)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", OptimizeWarning)
        try:
            best, covariance = curve_fit(usl, x, y / scale, p0=start, bounds=BOUNDS, max_nfev=10_000)
        except RuntimeError as error:
            raise TooFewPoints(f"the scalability law does not fit the measured throughput: {error}") from error
    off = float(np.abs(y / scale / usl(x, *best) - 1).max())
    if off > DEVIATION:
        raise TooFewPoints(
            f"the scalability law differs from the measured throughput by up to {off:.0%}, so it predicts nothing;"
            " measure other counts, for example without the smallest"
        )
    draws = _draws(best, x, y / scale)
    best[0] *= scale
    draws[:, 0] *= scale
    errors = np.sqrt(np.diag(covariance)) * (scale, 1, 1) if np.isfinite(covariance).all() else draws.std(axis=0)
    single, contention, coherence = (float(value) for value in best)
    of_single, of_contention, of_coherence = (float(error) for error in errors)
    return Fit(single, contention, coherence, (of_single, of_contention, of_coherence), draws, counts[-1])


def _draws(best: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Refits to the curve plus resampled residuals; this is valid even if a parameter is at its bound."""
    generator = np.random.default_rng(0)
    fitted = usl(x, *best)
    # The raw residuals are too small, since three parameters were fitted to the same points.
    residuals = (y - fitted) / fitted * math.sqrt(len(x) / max(1, len(x) - 3))
    start = np.clip(best, 1e-9, np.array(BOUNDS[1]) - 1e-9)
    draws = []
    for _ in range(200):
        noisy = fitted * (1 + generator.choice(residuals, len(x)) * generator.choice((-1, 1), len(x)))
        try:
            draws.append(curve_fit(usl, x, noisy, p0=start, bounds=BOUNDS, max_nfev=2000)[0])
        except RuntimeError:
            continue
    return np.array(draws or [best])


@dataclass(frozen=True)
class Capacity:
    """Replicas needed for a rate: the best estimate, and the counts at both ends of the interval (``high`` None = beyond the prediction)."""

    wanted_rps: float
    replicas: int
    low: int
    high: int | None


def replicas_for(fit: Fit, wanted_rps: float) -> Capacity:
    """The smallest count that serves ``wanted_rps``. Raises TooFewPoints if the data does not reach that far."""
    reach = int(fit.largest * EXTRAPOLATION)
    counts = range(1, reach + 1)
    best = next((n for n in counts if usl(n, fit.single, fit.contention, fit.coherence) >= wanted_rps), None)
    if best is None:
        most = max(float(usl(n, fit.single, fit.contention, fit.coherence)) for n in counts)
        raise TooFewPoints(
            f"the fitted curve reaches at most {most:.0f} requests/s with up to {reach} replicas, less than {wanted_rps:g};"
            f" the largest measured count is {fit.largest}. Measure larger counts, e.g. -e '{{\"bench_replicas\": [1, 2, {fit.largest}, {2 * fit.largest}]}}'"
        )
    intervals = {n: fit.interval(n) for n in counts}
    low = next((n for n in counts if intervals[n][1] >= wanted_rps), best)
    high = next((n for n in counts if intervals[n][0] >= wanted_rps), None)
    return Capacity(wanted_rps, best, min(low, best), high if high is None else max(high, best))
