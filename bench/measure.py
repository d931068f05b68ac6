"""The figures of one arm for the summary, computed from its recording."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

from bench import resources
from bench.arm import Recording
from bench.percentiles import curve_ms, latency_ms, merged, per_second


def figures(recording: Recording, samples: Sequence[resources.Sample]) -> dict[str, Any]:
    """All figures of one arm as plain JSON; rates and latencies cover the window after the ramp."""
    about, window = recording.about, recording.window
    services = resources.by_service(samples, recording.first, recording.last)
    generator = resources.of_generator(recording.generator, recording.first, recording.last)
    ok, failed, corrected = (merged(i.histogram for i in window if i.outcome == outcome) for outcome in ("ok", "failed", "corrected"))
    done, lost = ok.get_total_count(), failed.get_total_count()
    rate = about["rate"] or None
    return {
        **{key: about[key] for key in ("name", "phase", "replicas", "index", "column", "position", "load")},
        "rate_rps": rate and round(rate, 1),
        "achieved_ratio": round((done + lost) / recording.seconds / rate, 4) if rate else None,
        # Of the turns that were due. A Locust file may send several requests in one.
        "answered_ratio": round((corrected.get_total_count() or done + lost) / recording.seconds / rate, 4) if rate else None,
        "seconds": recording.seconds,
        "requests": done,
        "failed": lost,
        "error_ratio": round(lost / (done + lost), 6) if done + lost else 0.0,
        "throughput_rps": round(recording.throughput, 1),
        "latency_ms": latency_ms(ok),
        "corrected_ms": latency_ms(corrected),
        "by_request": _by_request(recording),
        "curve": curve_ms(ok),
        "corrected_curve": curve_ms(corrected),
        "series": _series(recording, samples),
        **_shares(recording),
        "generator": generator,
        "services": services,
        "bottleneck": resources.bottleneck(services, generator),
        "ledger": list(recording.ledger),
        "errors": list(recording.errors),
    }


def _by_request(recording: Recording) -> list[dict[str, Any]]:
    names = sorted({interval.name for interval in recording.window})
    rows = []
    for name in names:
        ok, failed = (merged(i.histogram for i in recording.window if (i.outcome, i.name) == (outcome, name)) for outcome in ("ok", "failed"))
        rows.append({"request": name, "requests": ok.get_total_count(), "failed": failed.get_total_count(), "latency_ms": latency_ms(ok)})
    return rows


def _series(recording: Recording, samples: Sequence[resources.Sample]) -> dict[str, Any]:
    """Series per second from the start; ``ramp_end`` and ``stop`` delimit the window, in seconds after the start."""
    first, last = int(recording.events["started"]), recording.last
    return {
        "ramp_end": recording.first - first,
        "stop": recording.last - first,
        **per_second(recording.intervals, first, last),
        "cpu": resources.cpu_series([s for s in samples if s.service != "node"], first, last),
    }


def _shares(recording: Recording) -> dict[str, Any]:
    answers: Counter[str] = Counter()
    for second, counts in recording.replicas.items():
        if recording.first <= second < recording.last:
            answers.update(counts)
    total = sum(answers.values())
    shares = [{"replica": name, "requests": count, "share": round(count / total, 4)} for name, count in sorted(answers.items(), key=_natural)]
    mean = total / max(len(answers), 1)
    return {"shares": shares, "busiest_over_mean": round(max(answers.values()) / mean, 3) if answers else None}


def _natural(item: tuple[str, int]) -> tuple[int, str]:
    return len(item[0]), item[0]
