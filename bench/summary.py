"""Assembles ``summary.json``, which contains every figure of the report."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from bench import scaling, verdict
from bench.arm import load_recording
from bench.baseline import compare
from bench.environment import fingerprint
from bench.explanation import explain
from bench.measure import figures
from bench.percentiles import latency_ms, merged
from bench.pictures import replicas_text
from bench.plan import Settings, arms
from bench.resources import SATURATED, of_stack, read_samples

SCHEMA = "counter-deploy/bench-summary/1"
CURVE = "measure a curve: ./counter bench -e bench_curve_loads=[0.3,0.5,0.7,0.9]"

TEXTS = {
    "generator ceiling": "highest throughput divided by the throughput of the same Locust against a trivial server",
    "machine CPU": "CPU utilisation of the busiest node, steal included; above the limit, the machine was measured instead of the replicas",
    "generator CPU": "cores used by Locust's busiest process, which can use one at most",
    "offered rate": "turns answered divided by turns due at the fixed rate, in the worst arm",
    "surplus rate": "requests sent divided by turns due, in the arm that sent most; above the limit, each turn of the Locust file sends several requests",
    "saturation": "lowest median latency of a saturated run divided by the lowest at the fixed rate; below the limit, nothing was saturated: raise bench_users",
}


def summarise(run_directory: Path, baseline: Path | None = None) -> dict[str, Any]:
    """The summary of a run's directory; arms that did not finish are listed as missing.

    Raises FileNotFoundError if there is no manifest, ValueError if no arm was measured.
    """
    manifest = json.loads((run_directory / "manifest.json").read_text())
    settings = Settings.from_mapping(manifest["settings"])
    samples = of_stack(read_samples(sorted(run_directory.glob("resources/*.csv"))), settings.stack)
    measured, recordings, missing = [], {}, []
    for arm in arms(settings):
        try:
            recording = load_recording(run_directory / "arms" / arm.name)
        except (FileNotFoundError, KeyError, ValueError):
            missing.append(arm.name)
            continue
        recordings[arm.name] = recording
        measured.append(figures(recording, samples))
    if not measured:
        raise ValueError(f"{run_directory}: no arm finished; see arms/*/locust.log")
    counts = _counts(settings, measured, recordings)
    scale = _scaling(settings, measured)
    ceiling = manifest.get("ceiling")
    environment = manifest["environment"]
    checks = _checks(settings, measured, counts, ceiling, missing, len(environment["nodes"]))
    result = verdict.decide(checks)
    headline = _headline(counts, checks)
    summary: dict[str, Any] = {
        "schema": SCHEMA,
        "run": manifest["run"],
        "verdict": {"result": result, "sentence": f"{result}: {headline}", "headline": headline, "checks": [asdict(check) for check in checks]},
        "settings": settings.as_dict(),
        "environment": {**environment, "fingerprint": fingerprint(environment, settings.as_dict())},
        "ceiling": ceiling,
        "totals": _totals(measured),
        "counts": counts,
        "arms": measured,
        "missing": missing,
        "scaling": scale,
        "limits": _limits(settings, measured, environment),
        "baseline": None,
    }
    if baseline:
        summary["baseline"] = compare(summary, baseline)
    plain: dict[str, Any] = json.loads(json.dumps(summary))
    return plain


def _totals(measured: Sequence[Mapping[str, Any]]) -> dict[str, int]:
    """Sums over all arms: requests in the windows, increments of the whole runs."""
    entries = [entry for arm in measured for entry in arm["ledger"]]
    return {
        "requests": sum(arm["requests"] + arm["failed"] for arm in measured),
        "failed": sum(arm["failed"] for arm in measured),
        "acknowledged": sum(entry["ok"] for entry in entries),
        "lost": sum(entry["lost"] for entry in entries),
        "surplus": sum(entry["surplus"] for entry in entries if entry["state"] == "surplus"),
    }


def _counts(settings: Settings, measured: Sequence[Mapping[str, Any]], recordings: Mapping[str, Any]) -> list[dict[str, Any]]:
    """One row per entry of ``replicas``: its phases' figures over all their arms, and the comparison with the first entry."""
    rows = []
    for column, replicas in enumerate(settings.replicas):
        mine = [arm for arm in measured if arm["column"] == column]
        row: dict[str, Any] = {"replicas": replicas, "column": column}
        for key, phase in (("saturation", "S"), ("latency", "L")):
            chosen = [arm for arm in mine if arm["phase"] == phase]
            row[key] = _together(chosen, recordings) if chosen else None
        ratio = _ratio(measured, column) if column else None
        row["speedup"] = asdict(ratio) if ratio else None
        row["efficiency"] = round(scaling.efficiency(ratio.value, settings.replicas[0], replicas), 4) if ratio else None
        row["explanation"] = explain(row, settings.replicas[0], measured, settings.users)
        rows.append(row)
    # None if nothing was answered at the fixed rate, or if the Locust file has its own schedule.
    latencies = [row["latency"] and row["latency"]["corrected_ms"] for row in rows]
    for row, latency in zip(rows, latencies, strict=True):
        row["p99_ratio"] = round(latency["p99"] / latencies[0]["p99"], 4) if latency and latencies[0] and row["column"] else None
    return rows


def _together(chosen: Sequence[Mapping[str, Any]], recordings: Mapping[str, Any]) -> dict[str, Any]:
    windows = [interval for arm in chosen for interval in recordings[arm["name"]].window]
    done, failed, seconds = (sum(arm[key] for arm in chosen) for key in ("requests", "failed", "seconds"))
    return {
        "arms": [arm["name"] for arm in chosen],
        "rate_rps": chosen[0]["rate_rps"],
        "throughput_rps": round(done / seconds, 1),
        "requests": done,
        "failed": failed,
        "error_ratio": round(failed / (done + failed), 6) if done + failed else 0.0,
        "latency_ms": latency_ms(merged(i.histogram for i in windows if i.outcome == "ok")),
        "corrected_ms": latency_ms(merged(i.histogram for i in windows if i.outcome == "corrected")),
    }


def _ratio(measured: Sequence[Mapping[str, Any]], column: int) -> scaling.Ratio | None:
    throughput = {(arm["position"], arm["column"]): arm["throughput_rps"] for arm in measured if arm["phase"] == "S"}
    pairs = [(value, throughput[position, column]) for (position, c), value in throughput.items() if c == 0 and (position, column) in throughput]
    usable = [pair for pair in pairs if min(pair) > 0]
    return scaling.ratio(usable) if usable else None


def _scaling(settings: Settings, measured: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The fitted law, and the answer to "how many replicas for X requests/s at p99 < Y", or why there is none."""
    limit = settings.capacity_p99_ms
    result: dict[str, Any] = {"fit": None, "refused": None, "capacity": None, "capacity_p99_ms": limit, "points": []}
    try:
        points = _points(settings, measured)
        result["points"] = [list(point) for point in points]
        fit = scaling.fit_usl(points)
    except scaling.TooFewPoints as reason:
        return {**result, "refused": str(reason)}
    curve = [(n, float(scaling.usl(n, fit.single, fit.contention, fit.coherence)), *fit.interval(n)) for n in range(1, 2 * fit.largest + 1)]
    result["fit"] = {
        "single_rps": round(fit.single, 1),
        "contention": round(fit.contention, 5),
        "coherence": round(fit.coherence, 6),
        "errors": [round(error, 6) for error in fit.errors],
        "peak_replicas": round(fit.peak, 1) if fit.peak < 1e6 else None,
        # With one point per count, the scatter of the runs is hardly known.
        "interval": "rough interval" if len(points) == len({replicas for replicas, _ in points}) else f"{scaling.CONFIDENCE:.0%} interval",
        "curve": [[n, *(round(value, 1) for value in values)] for n, *values in curve],
    }
    if settings.capacity_rps:
        try:
            result["capacity"] = asdict(scaling.replicas_for(fit, settings.capacity_rps))
        except scaling.TooFewPoints as reason:
            result["refused"] = str(reason)
    return result


def _points(settings: Settings, measured: Sequence[Mapping[str, Any]]) -> list[tuple[int, float]]:
    """(replicas, requests/s): saturated throughput, or with a latency limit the highest rate that met it.

    Raises TooFewPoints if too few counts have a rate that met it.
    """
    p99_limit = settings.capacity_p99_ms
    if p99_limit is None:
        return [(arm["replicas"], arm["throughput_rps"]) for arm in measured if arm["phase"] == "S"]
    if all(arm["phase"] != "C" for arm in measured):
        raise scaling.TooFewPoints(f"which rates meet a p99 of {p99_limit:g} ms was not measured; {CURVE}")
    kept: dict[int, float] = {}
    for arm in measured:
        latency = arm["corrected_ms"]
        offered = arm["phase"] == "C" and arm["answered_ratio"] >= verdict.ACHIEVED_SHARE and arm["achieved_ratio"] <= verdict.SURPLUS_SHARE
        if offered and latency and latency["p99"] <= p99_limit:
            kept[arm["replicas"]] = max(kept.get(arm["replicas"], 0.0), arm["throughput_rps"])
    if len(kept) < scaling.MINIMUM_POINTS:
        lower = ",".join(f"{load / 2:g}" for load in settings.curve_loads)
        raise scaling.TooFewPoints(
            f"p99 was at most {p99_limit:g} ms at a measured rate with {', '.join(map(str, sorted(kept))) or 'no number of'} replicas, and"
            f" {scaling.MINIMUM_POINTS} different counts are needed. Measure lower rates: {settings.command} -e bench_curve_loads=[{lower}]"
        )
    return sorted(kept.items())


def _checks(
    settings: Settings,
    measured: Sequence[Mapping[str, Any]],
    counts: Sequence[Mapping[str, Any]],
    ceiling: Mapping[str, Any] | None,
    missing: Sequence[str],
    nodes: int,
) -> list[verdict.Check]:
    entries = [(arm["name"], entry) for arm in measured for entry in arm["ledger"]]
    wrong = [(name, entry) for name, entry in entries if entry["state"] in ("lost", "surplus")]
    # An arm whose increments all failed proves nothing, nor does one without any success. A Locust file need not increment.
    unproved = [arm["name"] for arm in measured if not _sum(arm, "ok") and (_sum(arm, "failed") or not arm["requests"])]
    disturbed = [name for name, entry in entries if entry["state"] == "disturbed"]
    # A request that fails before or after the measured window failed too.
    done = sum(sum(arm["series"]["ok"]) for arm in measured)
    failed = sum(error["count"] for arm in measured for error in arm["errors"])
    errors = failed / (done + failed) if done + failed else 1.0
    last = counts[-1]
    paced = [arm for arm in measured if arm["phase"] == "L"]
    achieved, answered = ([arm[f"{what}_ratio"] for arm in paced] for what in ("achieved", "answered"))
    offered = None if None in answered else min(answered, default=None)
    sent = None if None in achieved else max(achieved, default=None)
    # A Locust file with a schedule of its own is not paced.
    queued_limit = verdict.QUEUED if not paced or any(arm["corrected_ms"] for arm in paced) else None
    fastest = max((arm["throughput_rps"] for arm in measured), default=0.0)
    of_ceiling = round(fastest / ceiling["throughput_rps"], 3) if ceiling and ceiling["throughput_rps"] else None
    p99 = last["latency"] and last["latency"]["corrected_ms"] and last["latency"]["corrected_ms"]["p99"]
    # Of an arm in which a node was not sampled, nothing is known.
    machine = _largest([s["load"] for s in arm["services"] if s["service"] == "node" and s["tasks"] >= nodes] for arm in measured)
    busiest = _largest([arm["generator"]["busiest_cores"]] if arm["generator"]["processes"] else [] for arm in measured)
    efficiency_limit = settings.min_efficiency if len(counts) > 1 else None
    least, most = verdict.at_least, verdict.at_most
    return [
        most("fact", "ledger", None if unproved and not wrong else len(wrong), 0, _ledger_text(entries, wrong, unproved)),
        most("fact", "errors", errors, settings.max_error_ratio, f"{failed:,} requests failed, and {done:,} succeeded before the users stopped"),
        most("guard", "complete", len(missing), 0, f"arms without a result: {', '.join(missing) or 'none'}"),
        most("guard", "undisturbed", len(disturbed), 0, f"arms during which other clients opened the page: {', '.join(disturbed) or 'none'}"),
        most("guard", "generator ceiling", of_ceiling, verdict.CEILING_SHARE, TEXTS["generator ceiling"]),
        most("guard", "machine CPU", machine, SATURATED, TEXTS["machine CPU"]),
        most("guard", "generator CPU", busiest, verdict.WORKER_CPU, TEXTS["generator CPU"]),
        least("guard", "offered rate", offered, verdict.ACHIEVED_SHARE if paced else None, TEXTS["offered rate"]),
        most("guard", "surplus rate", sent, verdict.SURPLUS_SHARE if paced else None, TEXTS["surplus rate"]),
        least("guard", "saturation", _queued(measured), queued_limit, TEXTS["saturation"]),
        _efficiency_interval(settings, last),
        least("objective", "efficiency", last["efficiency"], efficiency_limit, f"speed-up of {last['replicas']} replicas divided by perfect scaling"),
        most("objective", "p99", p99, settings.max_p99_ms, f"milliseconds from the intended start, with {last['replicas']} replicas at the fixed rate"),
    ]


def _largest(values: Iterable[Sequence[float]]) -> float | None:
    """The largest value over all arms; None if an arm has none."""
    of_arms = list(values)
    return max(map(max, of_arms)) if all(of_arms) else None


def _queued(measured: Sequence[Mapping[str, Any]]) -> float | None:
    """The lowest median latency of phase S over the lowest of phase L; None if nothing succeeded in one of them.

    With enough users, requests wait for each other, whether a CPU, a disk or the network is the bottleneck.
    """
    medians = {phase: [arm["latency_ms"]["p50"] for arm in measured if arm["phase"] == phase and arm["latency_ms"]] for phase in "SL"}
    return round(min(medians["S"]) / min(medians["L"]), 2) if all(medians.values()) else None


def _efficiency_interval(settings: Settings, last: Mapping[str, Any]) -> verdict.Check:
    """Whether the runs decide if the efficiency reaches its limit."""
    speed, limit = last["speedup"], settings.min_efficiency
    if not speed or limit is None:
        return verdict.at_most("guard", "efficiency interval", None, None, "there is no limit, or no ratio")
    if len(speed["pairs"]) < 2:
        return verdict.at_most("guard", "efficiency interval", None, None, "one pair has no interval")
    low, high = (scaling.efficiency(speed[end], settings.replicas[0], last["replicas"]) for end in ("low", "high"))
    is_undecided = low < limit <= high
    text = f"the efficiency is {low:.2f} to {high:.2f} ({speed['interval']})"
    if is_undecided:
        text += f", so it is open whether it reaches {limit:g}; more runs narrow the interval: -e bench_repeats={max(4, 2 * settings.repeats)}"
    return verdict.at_most("guard", "efficiency interval", int(is_undecided), 0, text)


def _sum(arm: Mapping[str, Any], key: str) -> int:
    return sum(entry[key] for entry in arm["ledger"])


def _ledger_text(entries: Sequence[tuple[str, Mapping[str, Any]]], wrong: Sequence[tuple[str, Mapping[str, Any]]], unproved: Sequence[str]) -> str:
    if unproved and not wrong:
        return f"no increment was acknowledged in {', '.join(unproved)}, so nothing is proved"
    if not wrong:
        ok, failed = (sum(entry[key] for _, entry in entries) for key in ("ok", "failed"))
        of_arms = f"{ok:,} acknowledged increments of {len({name for name, _ in entries})} arms"
        if failed and not any(entry["state"] == "disturbed" for _, entry in entries):
            return f"the counters grew by no less than {of_arms}, and by no more than these and {failed:,} that failed"
        return f"all {of_arms} are in the counters"
    lost, surplus = (sum(entry[key] for _, entry in wrong) for key in ("lost", "surplus"))
    return f"the counters are wrong after {', '.join(sorted({name for name, _ in wrong}))}: {lost:,} acknowledged increments lost, {surplus:,} too many"


def _headline(counts: Sequence[Mapping[str, Any]], checks: Sequence[verdict.Check]) -> str:
    """The result in one sentence: the comparison first, then the checks that failed."""
    parts = []
    first, last = counts[0], counts[-1]
    if last["saturation"]:
        parts.append(f"{replicas_text(last['replicas'])} served {last['saturation']['throughput_rps']:,.0f} requests/s")
    if last["speedup"]:
        speed = last["speedup"]
        interval = f"{speed['low']:.2f} to {speed['high']:.2f}, {speed['interval']}" if len(speed["pairs"]) > 1 else speed["interval"]
        # A speed-up implies a saturation.
        parts[-1] += f", {speed['value']:.2f} times as much as {replicas_text(first['replicas'])} ({interval}; efficiency {last['efficiency']:.0%})"
    if last["p99_ratio"]:
        latency, base = last["latency"], first["latency"]
        parts.append(
            f"at {latency['rate_rps']:,.0f} requests/s, p99 was {latency['corrected_ms']['p99']:,.0f} ms, compared with {base['corrected_ms']['p99']:,.0f} ms"
        )
    failed = [check for check in checks if check.passed is False or check.is_unknown]
    if failed:
        parts.append(("but " if parts else "") + "; ".join(_complaint(check) for check in failed))
    else:
        parts.append(next(check.text for check in checks if check.rule == "ledger"))
    return f"{'; '.join(parts)}."


def _complaint(check: verdict.Check) -> str:
    if check.rule in ("ledger", "errors", "complete", "undisturbed", "efficiency interval"):
        return check.text
    if check.value is None:
        return f"{check.rule} was not measured ({check.text})"
    return f"{check.rule} is {check.value:g}, limit {check.limit:g} ({check.text})"


def _limits(settings: Settings, measured: Sequence[Mapping[str, Any]], environment: Mapping[str, Any]) -> list[str]:
    """What these figures do not show."""
    limits = []
    if not settings.workers:
        limits.append("Locust ran on one machine" + (", which also runs the application: they share its CPUs." if environment.get("shared_host") else "."))
    if settings.app_cpus:
        limits.append(
            f"Each replica was limited to {settings.app_cpus:g} CPUs, so that the replicas are the bottleneck, not the machine. Absolute figures depend on it."
        )
    if settings.quick:
        limits.append("This was a quick run with short arms. It shows that everything works; use a full run for figures.")
    if len(settings.replicas) > 1 and settings.quick:
        limits.append("One pair of runs gives no confidence interval; a full run with -e bench_repeats=2 gives one.")
    elif len(settings.replicas) > 1 and settings.repeats == 1:
        limits.append("The range of the ratios of 2 pairs is not a confidence interval; -e bench_repeats=2 gives one.")
    stolen = max((s["steal_ratio"] for arm in measured for s in arm["services"] if s["service"] == "node"), default=0.0)
    if stolen > 0.01:
        limits.append(f"The hypervisor withheld up to {stolen:.1%} of the CPU time (steal).")
    throttled = max((s["throttled_ratio"] for arm in measured for s in arm["services"]), default=0.0)
    if throttled > 0.05:
        limits.append(f"CPU limits throttled a service in up to {throttled:.0%} of the 100 ms periods, which determines its p99.")
    limits.append("Phase S is a closed loop: its mean latency is the number of users divided by the throughput. Judge latency by phase L.")
    limits.append("Each count ran once at the fixed rate, in the order of bench_replicas, so its p99 has no interval and a drift affects it.")
    return limits
