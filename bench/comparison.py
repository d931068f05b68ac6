"""One page over several runs: the throughput, latency and lost increments of each topology or edge."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from markupsafe import Markup

from bench.report import FORMATS, NOTHING, TEMPLATES, environment, lookup

COLUMNS = (
    ("requests/s", "saturation.throughput_rps", "rate"),
    ("speed-up", "speedup.value", "ratio"),
    ("p50 ms", "latency.corrected_ms.p50", "ms"),
    ("p99 ms", "latency.corrected_ms.p99", "ms"),
)


def rows(summaries: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """One row per run: its variant, verdict, the figures of its last replica count, and its ledger."""
    found = []
    for summary in summaries:
        last = summary["counts"][-1]
        figures = {title: lookup(last, path) for title, path, _ in COLUMNS}
        found.append(
            {
                "run": summary["run"]["id"],
                "topology": summary["settings"]["topology"],
                "edge": summary["settings"]["edge"],
                "result": summary["verdict"]["result"],
                "replicas": last["replicas"],
                "rate_rps": last["latency"] and last["latency"]["rate_rps"],
                "figures": figures,
                **{key: summary["totals"][key] for key in ("acknowledged", "lost", "surplus", "failed")},
                "headline": summary["verdict"]["headline"],
            }
        )
    return found


def sentence(found: Sequence[dict[str, Any]]) -> str:
    """The result in one sentence."""
    rates = [row["figures"]["requests/s"] for row in found]
    parts = [
        f"{row['topology']} with edge {row['edge']}: {NOTHING if rate is None else FORMATS['rate'](rate)} requests/s,"
        f" {row['lost']:,} of {row['acknowledged']:,} acknowledged increments lost ({row['result']})"
        for row, rate in zip(found, rates, strict=True)
    ]
    return "; ".join(parts) + "."


def read(directory: Path) -> list[dict[str, Any]]:
    """Summaries of the runs in ``directory``. Raises ValueError if there are none."""
    summaries = [json.loads(path.read_text()) for path in sorted(directory.glob("*/summary.json")) if not path.parent.is_symlink()]
    if not summaries:
        raise ValueError(f"{directory}: no run wrote a summary; see the output of the commands above")
    return summaries


def write(summaries: Sequence[dict[str, Any]], directory: Path) -> str:
    """Write report.html and comparison.json to ``directory``, and return the sentence."""
    found = rows(summaries)

    def cell(value: Any, form: str = "plain") -> Markup:
        return Markup(NOTHING) if value is None else Markup('<data value="{}">{}</data>').format(json.dumps(value), FORMATS[form](value))

    css = Markup((TEMPLATES / "report.css").read_text())
    page = environment(autoescape=True).get_template("comparison.html.j2")
    (directory / "comparison.json").write_text(json.dumps(found, indent=1) + "\n")
    (directory / "report.html").write_text(page.render(rows=found, columns=COLUMNS, cell=cell, css=css, sentence=sentence(found)))
    return sentence(found)
