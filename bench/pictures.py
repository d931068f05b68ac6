"""The charts of one summary, by the names that the page template uses."""

from collections.abc import Mapping, Sequence
from operator import itemgetter
from typing import Any

from markupsafe import Markup

from bench.charts import NINES_AXIS, Axis, Bars, Chart, Line, nines

STYLES = ("solid", "dashed", "dotted")


def charts(summary: Mapping[str, Any]) -> dict[str, Markup]:
    """All charts as markup."""
    arms = summary["arms"]
    saturated = [arm for arm in arms if arm["phase"] == "S"]
    paced = [arm for arm in arms if arm["phase"] == "L"]
    made: dict[str, Chart | Bars | None] = {
        "throughput_latency": _throughput_latency(arms, summary["counts"]),
        "percentiles_saturated": _percentiles("ps", saturated, "curve", "Service time by percentile, saturated"),
        "percentiles_paced": _percentiles("pl", paced, "corrected_curve", "Time from the intended start by percentile, fixed rate"),
        "rate_series": _series("rs", saturated, "ok", "Requests per second over the run, saturated", "requests/s"),
        "latency_series": _series("ls", paced, "p99", "p99 of each second over the run, fixed rate", "p99 of service time in ms", log=True),
        "cpu": _cpu(arms),
        "scaling": _scaling(summary["scaling"]),
    }
    return {name: Markup(chart.svg()) for name, chart in made.items() if chart is not None}


def _label(arm: Mapping[str, Any]) -> str:
    return f"{replicas_text(arm['replicas'])}, run {arm['index']}"


def replicas_text(count: int) -> str:
    """The number of replicas, in words."""
    return f"{count} replica{'s' * (count != 1)}"


def _style(arm: Mapping[str, Any]) -> str:
    return STYLES[arm["position"] % len(STYLES)]


def _throughput_latency(arms: Sequence[Mapping[str, Any]], counts: Sequence[Mapping[str, Any]]) -> Chart:
    lines = []
    for row in counts:
        paced = sorted(
            (arm for arm in arms if arm["column"] == row["column"] and arm["phase"] in "LC" and arm["corrected_ms"]), key=itemgetter("throughput_rps")
        )
        figures = [(arm["throughput_rps"], arm["corrected_ms"]) for arm in paced]
        if row["saturation"] and row["saturation"]["latency_ms"]:
            figures.append((row["saturation"]["throughput_rps"], row["saturation"]["latency_ms"]))
        for percentile, style in (("p99", "solid"), ("p50", "dashed")):
            points = [(throughput, latency[percentile]) for throughput, latency in figures]
            lines.append(Line(f"{replicas_text(row['replicas'])}, {percentile}", points, row["column"], style, markers=True))
    return Chart(
        "tl",
        "Latency at a given throughput",
        "Each point is a run at a fixed rate; the last point of each line is the saturated run, in which requests queue.",
        Axis("requests/s answered"),
        Axis("milliseconds", log=True),
        lines,
    )


def _percentiles(name: str, arms: Sequence[Mapping[str, Any]], curve: str, title: str) -> Chart:
    lines = [Line(_label(arm), [(nines(p), value) for p, value in arm[curve]], arm["column"], _style(arm)) for arm in arms]
    return Chart(name, title, "The axis gives each further nine of the percentile equal space.", NINES_AXIS, Axis("milliseconds", log=True), lines)


def _series(name: str, arms: Sequence[Mapping[str, Any]], key: str, title: str, unit: str, log: bool = False) -> Chart:
    lines = [Line(_label(arm), list(enumerate(arm["series"][key])), arm["column"], _style(arm)) for arm in arms]
    ramp = max((arm["series"]["ramp_end"] for arm in arms), default=0)
    return Chart(
        name,
        title,
        f"The first {ramp} seconds (shaded) are the ramp and are not measured.",
        Axis("seconds since the start"),
        Axis(unit, log=log),
        lines,
        bands=[(0, ramp, "ramp, not measured")],
    )


def _cpu(arms: Sequence[Mapping[str, Any]]) -> Bars:
    services = sorted({service["service"] for arm in arms for service in arm["services"]} - {"node"})
    rows = []
    for arm in arms:
        used = {service["service"]: service["cpu_cores"] for service in arm["services"]}
        rows.append((arm["name"], [*(used.get(service, 0.0) for service in services), arm["generator"]["cpu_cores"]]))
    return Bars("cpu", "CPU by service", "Mean CPU of all tasks of a service in each arm.", "cores", [*services, "Locust"], rows)


def _scaling(scaling: Mapping[str, Any]) -> Chart | None:
    fit = scaling["fit"]
    if not fit:
        return None
    curve = fit["curve"]
    lines = [
        Line("measured", sorted(map(tuple, scaling["points"])), 0, "none", markers=True),
        Line("fitted law", [(n, value) for n, value, _, _ in curve], 1),
        Line(f"{fit['interval']}, low", [(n, low) for n, _, low, _ in curve], 1, "dotted"),
        Line(f"{fit['interval']}, high", [(n, high) for n, _, _, high in curve], 1, "dotted"),
        Line("perfect scaling", [(n, n * fit["single_rps"]) for n, *_ in curve], 7, "dashed"),
    ]
    return Chart("usl", "Throughput by replica count", "Measured points and the fitted Universal Scalability Law.", Axis("replicas"), Axis("requests/s"), lines)
