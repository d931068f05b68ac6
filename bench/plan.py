"""The arms of a benchmark, their order and their length.

An arm is one Locust run against one replica count. Phase S saturates the replicas (a closed loop of users). Phase L sends at
one fixed rate. The optional phase C sends at several rates to every count, for the throughput-latency curve.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

SETTLE_SECONDS = 2
"""Between the end of the ramp and the start of the measured window."""
OVERHEAD_SECONDS = 4
"""Time per arm in addition to the warm-up and the load: Locust's start and end, the ledger."""


@dataclass(frozen=True)
class Arm:
    """One run; ``index`` distinguishes arms with the same phase and count, ``position`` pairs the arms of phase S.

    ``load`` is the rate as a share of the capacity that phase S measured with ``load_of`` replicas; None in phase S.
    """

    name: str
    phase: str
    replicas: int
    index: int
    position: int
    column: int
    duration: int
    expected: int
    load: float | None = None
    load_of: int | None = None


@dataclass(frozen=True)
class Settings:
    """The settings of a run; the role's ``bench_*`` variables have the same names."""

    replicas: tuple[int, ...] = (1, 4)
    users: int = 300
    spawn_rate: float = 30
    duration: int = 60
    latency_duration: int = 45
    repeats: int = 1
    load: float = 0.7
    curve_loads: tuple[float, ...] = ()
    warmup: int = 3
    weights: tuple[int, int, int] = (1, 3, 1)
    workers: int = 0
    app_cpus: float | None = None
    quick: bool = False
    strict: bool = False
    max_error_ratio: float = 0.0
    max_p99_ms: float | None = None
    min_efficiency: float | None = None
    capacity_rps: float | None = None
    capacity_p99_ms: float | None = None
    command: str = "./counter bench"
    stack: str = "counter"
    topology: str = "standalone"
    edge: str = "proxy"
    target: str = "http://127.0.0.1:8080"

    @classmethod
    def from_mapping(cls, values: Mapping[str, Any]) -> "Settings":
        """Settings from parsed JSON, which the role has checked; raises ValueError with the name of an unknown one."""
        unknown = set(values) - set(cls.__dataclass_fields__)
        if unknown:
            raise ValueError(f"unknown settings: {', '.join(sorted(unknown))}")
        tuples = {name: tuple(value) for name, value in values.items() if isinstance(value, list)}
        return cls(**{**values, **tuples})

    def as_dict(self) -> dict[str, Any]:
        """Plain JSON."""
        return {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(self).items()}


def arms(settings: Settings) -> list[Arm]:
    """The arms, in the order in which they run.

    Phase S goes up and down again (1,4,4,1), so that a drift of the machine affects both counts equally. A quick run only goes down
    and ends at the count with which phase L begins. Arms at the same ``position`` (one way up, or one way down) form the pairs whose
    ratios are computed. ``column`` is the index in ``replicas``, so that a count can be compared with itself (an A/A run).
    """
    columns = list(enumerate(settings.replicas))
    base = settings.replicas[0]
    ways = [1] if settings.quick else range(2 * settings.repeats)
    ordered: list[tuple[str, int, int, int, float | None, int | None]] = [
        *(("S", column, replicas, way, None, None) for way in ways for column, replicas in (columns[::-1] if way % 2 else columns)),
        *(("L", column, replicas, 0, settings.load, base) for column, replicas in columns),
        *(("C", column, replicas, at, load, replicas) for column, replicas in reversed(columns) for at, load in enumerate(settings.curve_loads)),
    ]
    seen: Counter[tuple[str, int]] = Counter()
    planned = []
    for phase, column, replicas, position, load, load_of in ordered:
        seen[phase, replicas] += 1
        index = seen[phase, replicas]
        duration = settings.duration if phase == "S" else settings.latency_duration
        expected = duration + settings.warmup + OVERHEAD_SECONDS
        planned.append(Arm(f"{phase}-r{replicas}-{index}", phase, replicas, index, position, column, duration, expected, load, load_of))
    return planned


def steps(settings: Settings, run: Path) -> list[dict[str, Any]]:
    """What runs: the ``command`` of ``python -m bench``, its ``title``, and the seconds that are ``expected``.

    The first step measures the generator alone, without ``replicas``; each arm is one more.
    """
    planned = arms(settings)
    alone = {"command": ["ceiling", str(run)], "title": "the generator alone against a trivial server, 12 s", "expected": 15, "replicas": ""}
    return [alone] + [
        {
            "command": ["arm", str(run), arm.name],
            "title": f"{number} of {len(planned)}, {arm.replicas} {'replica' if arm.replicas == 1 else 'replicas'}, "
            f"{'saturated' if arm.phase == 'S' else 'fixed rate'}, {arm.expected} s",
            "expected": arm.expected,
            "replicas": arm.replicas,
        }
        for number, arm in enumerate(planned, 1)
    ]
