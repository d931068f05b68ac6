"""From recorded runs to summary.json: schema, verdicts, missing arms, baseline."""

import json
import shutil
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from bench.__main__ import _rate, main
from bench.baseline import compare
from bench.comparison import read, rows, sentence, write
from bench.plan import Settings, arms
from bench.report import html, markdown
from bench.summary import SCHEMA, _scaling, summarise
from support.ansible import ROOT
from support.recordings import RUNS


@pytest.mark.parametrize("run", RUNS)
def test_summary_follows_the_published_schema(run: str, recorded: Callable[[str], dict[str, Any]]) -> None:
    schema = json.loads((ROOT / "bench/summary.schema.json").read_text())
    jsonschema.Draft202012Validator.check_schema(schema)
    jsonschema.validate(recorded(run), schema, cls=jsonschema.Draft202012Validator)
    assert schema["$id"] == SCHEMA


@pytest.mark.parametrize("run", RUNS)
def test_figures_agree_with_each_other(run: str, recorded: Callable[[str], dict[str, Any]]) -> None:
    summary = recorded(run)
    for arm in summary["arms"]:
        window = slice(arm["series"]["ramp_end"], arm["series"]["stop"])
        assert sum(arm["series"]["ok"][window]) == arm["requests"] == sum(row["requests"] for row in arm["by_request"])
        assert abs(arm["throughput_rps"] - arm["requests"] / arm["seconds"]) < 0.06
        assert sum(share["requests"] for share in arm["shares"]) == arm["requests"] + arm["failed"]
        assert len(arm["shares"]) == arm["replicas"]
    for row in summary["counts"][1:]:
        speed = row["speedup"]
        assert speed["low"] <= speed["value"] <= speed["high"]
        assert abs(row["efficiency"] - speed["value"] * summary["settings"]["replicas"][0] / row["replicas"]) < 0.001


def test_busy_machine_is_inconclusive(recorded: Callable[[str], dict[str, Any]]) -> None:
    """Recorded while other work took the machine's CPUs: the efficiency it shows is not the application's."""
    verdict = recorded("busy-machine")["verdict"]
    assert verdict["result"] == "INCONCLUSIVE"
    assert {check["rule"] for check in verdict["checks"] if check["passed"] is False} == {"machine CPU", "efficiency"}


def test_equal_arms_differ_by_no_more_than_the_stated_interval(recorded: Callable[[str], dict[str, Any]]) -> None:
    """Recorded with the same count twice (``bench_replicas=[2, 2]``): there is nothing to find, and nothing is claimed."""
    first, second = recorded("same-count")["counts"]
    assert first["replicas"] == second["replicas"]
    assert second["speedup"]["low"] < 1 < second["speedup"]["high"]


def test_independent_nodes_lose_acknowledged_increments(recorded: Callable[[str], dict[str, Any]]) -> None:
    """Recorded on a swarm: three Redis nodes that do not replicate. The loss is a FAIL however busy the machine was."""
    summary = recorded("independent")
    assert summary["verdict"]["result"] == "FAIL"
    assert {entry["state"] for arm in summary["arms"] for entry in arm["ledger"]} == {"lost"}
    assert 0.5 < summary["totals"]["lost"] / summary["totals"]["acknowledged"] < 0.8


def test_comparison_shows_what_each_variant_loses(recorded: Callable[[str], dict[str, Any]], tmp_path: Path) -> None:
    for name in ("busy-machine", "independent"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "summary.json").write_text(json.dumps(recorded(name)))
    said = write(read(tmp_path), tmp_path)
    assert "standalone with edge proxy" in said
    assert f"{recorded('independent')['totals']['lost']:,} of" in said
    page = (tmp_path / "report.html").read_text()
    assert f'<data value="{recorded("independent")["totals"]["lost"]}">' in page
    assert "https://" not in page


@pytest.mark.parametrize(("runs", "options", "code"), [(RUNS, [], 1), (["busy-machine"], [], 0), (["busy-machine"], ["--strict"], 2)])
def test_comparison_ends_with_the_worst_verdict(
    recorded: Callable[[str], dict[str, Any]], tmp_path: Path, runs: list[str], options: list[str], code: int
) -> None:
    for name in runs:
        (tmp_path / name).mkdir()
        (tmp_path / name / "summary.json").write_text(json.dumps(recorded(name)))
    assert main(["compare", str(tmp_path), *options]) == code


def test_comparison_shows_no_rate_that_was_not_measured(recorded: Callable[[str], dict[str, Any]]) -> None:
    summary = json.loads(json.dumps(recorded("busy-machine")))
    summary["counts"][-1]["saturation"] = None
    assert "standalone with edge proxy: – requests/s" in sentence(rows([summary]))


def test_comparison_without_any_run_says_so(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no run wrote a summary"):
        read(tmp_path)


def test_run_that_broke_off_keeps_what_was_measured(copy_of: Callable[[str], Path]) -> None:
    run = copy_of("busy-machine")
    (run / "arms/L-r4-1/arm.json").unlink()
    shutil.rmtree(run / "arms/S-r1-2")
    summary = summarise(run)
    assert summary["missing"] == ["S-r1-2", "L-r4-1"]
    assert summary["verdict"]["result"] == "INCONCLUSIVE"
    assert "S-r1-2, L-r4-1" in summary["verdict"]["sentence"]
    assert len(summary["counts"][1]["speedup"]["pairs"]) == 1


@pytest.mark.parametrize("cut", ["events.jsonl", "latency.hlog", "arm.json", "ledger.json"])
def test_an_arm_with_a_file_that_was_cut_short_did_not_finish(copy_of: Callable[[str], Path], cut: str) -> None:
    """As a full disk leaves it. Judged by the rest of the file, the arm could let the run pass."""
    run = copy_of("same-count")
    change(run / "manifest.json", lambda manifest: manifest["settings"].update(min_efficiency=None))
    assert summarise(run)["verdict"]["result"] == "PASS"
    settings = Settings.from_mapping(json.loads((run / "manifest.json").read_text())["settings"])
    paced = next(arm for arm in arms(settings) if arm.phase == "L")
    rate = _rate(paced, settings, run)
    file = run / "arms/S-r2-1" / cut
    file.write_bytes(file.read_bytes()[:-10])
    summary = summarise(run)
    assert summary["missing"] == ["S-r2-1"]
    assert summary["verdict"]["result"] == "INCONCLUSIVE"
    # Of the other saturated arms.
    assert _rate(paced, settings, run) != rate


def test_run_without_any_arm_says_so(copy_of: Callable[[str], Path]) -> None:
    run = copy_of("busy-machine")
    shutil.rmtree(run / "arms")
    with pytest.raises(ValueError, match="no arm finished"):
        summarise(run)


def change(path: Path, edit: Callable[[Any], None]) -> None:
    value = json.loads(path.read_text())
    edit(value)
    path.write_text(json.dumps(value))


@pytest.mark.parametrize(("arms", "gone"), [(["L-r1-1"], "corrected:"), (["L-r4-1"], ("corrected:", "ok:")), (["L-r1-1", "L-r4-1"], ("corrected:", "ok:"))])
def test_a_fixed_rate_without_times_from_the_intended_start_is_reported(copy_of: Callable[[str], Path], arms: list[str], gone: str | tuple[str, ...]) -> None:
    """Nothing succeeded at the fixed rate, or a Locust file keeps a timetable of its own."""
    run = copy_of("busy-machine")
    for arm in arms:
        log = run / "arms" / arm / "latency.hlog"
        log.write_text("".join(line for line in log.read_text().splitlines(keepends=True) if not line.removeprefix("Tag=").startswith(gone)))
    assert main(["report", str(run)]) == 0
    summary = json.loads((run / "summary.json").read_text())
    assert summary["counts"][1]["p99_ratio"] is None
    assert [row["latency"]["corrected_ms"] is None for row in summary["counts"]] == ["L-r1-1" in arms, "L-r4-1" in arms]
    assert "p99" in (run / "report.html").read_text()


def test_a_mistake_of_the_program_is_no_verdict(copy_of: Callable[[str], Path], capsys: pytest.CaptureFixture[str]) -> None:
    run = copy_of("busy-machine")
    (run / "manifest.json").write_text("[]")
    assert main(["report", str(run)]) == 3
    assert "TypeError" in capsys.readouterr().err


def test_one_lost_increment_is_a_fail_even_on_a_busy_machine(copy_of: Callable[[str], Path]) -> None:
    run = copy_of("busy-machine")
    change(run / "arms/S-r4-1/ledger.json", lambda entries: entries[0].update(state="lost", lost=1))
    summary = summarise(run)
    assert summary["verdict"]["result"] == "FAIL"
    assert "1 acknowledged increments lost" in summary["verdict"]["sentence"]


@pytest.mark.parametrize(("failed", "result"), [pytest.param(0, "PASS", id="none sent"), pytest.param(5, "INCONCLUSIVE", id="all failed")])
def test_a_run_without_increments_is_judged_by_the_rest(copy_of: Callable[[str], Path], failed: int, result: str) -> None:
    """A Locust file need not increment; increments that all failed prove nothing of those that were acknowledged."""
    run = copy_of("same-count")
    change(run / "manifest.json", lambda manifest: manifest["settings"].update(min_efficiency=None))
    for ledger in run.glob("arms/*/ledger.json"):
        change(ledger, lambda entries: [entry.update(ok=0, failed=failed, gain=0, lost=0, surplus=0, state="exact") for entry in entries])
    assert summarise(run)["verdict"]["result"] == result


@pytest.mark.parametrize(
    ("more", "is_said"), [({}, True), ({"repeats": 2}, False), ({"quick": True}, True), ({"replicas": [1]}, False), ({"replicas": [1], "quick": True}, False)]
)
def test_limits_say_what_has_no_interval(copy_of: Callable[[str], Path], more: dict[str, Any], is_said: bool) -> None:
    """With one count there is no ratio that could have one."""
    run = copy_of("busy-machine")
    change(run / "manifest.json", lambda manifest: manifest["settings"].update(more))
    limits = " ".join(summarise(run)["limits"])
    assert ("-e bench_repeats=2 gives one" in limits) == is_said
    assert "its mean latency is the number of users divided by the throughput" in limits
    assert "Each count ran once at the fixed rate, in the order of bench_replicas" in limits


@pytest.mark.parametrize(("workers", "place"), [(0, "bench_reports"), (2, "bench_loadgen_dir")])
def test_a_full_disk_names_what_moves_the_runs(copy_of: Callable[[str], Path], capsys: pytest.CaptureFixture[str], workers: int, place: str) -> None:
    run = copy_of("busy-machine")
    manifest = json.loads((run / "manifest.json").read_text())
    (run / "settings.json").write_text(json.dumps({"settings": {**manifest["settings"], "workers": workers}}))
    assert main(["plan", str(run), "--min-free-mib", str(2**40)]) == 3
    assert f"use another directory: -e {place}=DIRECTORY" in capsys.readouterr().err


def test_low_ceiling_is_inconclusive(copy_of: Callable[[str], Path]) -> None:
    run = copy_of("busy-machine")
    change(run / "manifest.json", lambda manifest: manifest["ceiling"].update(throughput_rps=1000))
    failed = {check["rule"] for check in summarise(run)["verdict"]["checks"] if check["passed"] is False}
    assert "generator ceiling" in failed


@pytest.mark.parametrize("others", [0, 1])
def test_without_samples_of_a_machine_the_run_is_inconclusive(copy_of: Callable[[str], Path], others: int) -> None:
    """Also if there are samples of other machines."""
    run = copy_of("same-count")
    if others:
        change(run / "manifest.json", lambda manifest: manifest["environment"]["nodes"].append({"name": "another"}))
    else:
        for file in (run / "resources").glob("*.csv"):
            file.unlink()
    verdict = summarise(run)["verdict"]
    assert verdict["result"] == "INCONCLUSIVE"
    assert "machine CPU was not measured" in verdict["sentence"]


def test_a_request_that_failed_outside_of_the_window_failed(copy_of: Callable[[str], Path]) -> None:
    run = copy_of("same-count")
    with (run / "arms/S-r2-1/events.jsonl").open("a") as events:
        events.write(json.dumps({"error": "HTTP 503", "request": "read", "second": 0, "count": 2}) + "\n")
    summary = summarise(run)
    verdict = summary["verdict"]
    assert verdict["result"] == "FAIL"
    assert "2 requests failed" in verdict["sentence"]
    errors = next(check for check in verdict["checks"] if check["rule"] == "errors")
    succeeded = sum(sum(arm["series"]["ok"]) for arm in summary["arms"])
    assert errors["value"] == 2 / (2 + succeeded)


@pytest.mark.parametrize(("limit", "result"), [(0.9, "INCONCLUSIVE"), (0.83, "PASS"), (1.09, "FAIL")])
def test_a_limit_within_the_interval_of_the_efficiency_is_not_decided(copy_of: Callable[[str], Path], limit: float, result: str) -> None:
    """Recorded with the same count twice: the efficiency is 1, and 0.83 to 1.09 was measured."""
    run = copy_of("same-count")
    change(run / "manifest.json", lambda manifest: manifest["settings"].update(min_efficiency=limit))
    verdict = summarise(run)["verdict"]
    assert verdict["result"] == result
    assert ("the efficiency is 0.83 to 1.09 (95% interval over 4 pairs), so it is open" in verdict["sentence"]) == (result == "INCONCLUSIVE")


def test_an_open_efficiency_hides_no_slow_answers(copy_of: Callable[[str], Path]) -> None:
    run = copy_of("same-count")
    change(run / "manifest.json", lambda manifest: manifest["settings"].update(min_efficiency=0.9, max_p99_ms=5))
    assert summarise(run)["verdict"]["result"] == "FAIL"


def test_a_schedule_of_ones_own_is_not_called_unsaturated(copy_of: Callable[[str], Path]) -> None:
    run = copy_of("busy-machine")
    for log in run.glob("arms/L-*/latency.hlog"):
        lines = log.read_text().splitlines(keepends=True)
        log.write_text("".join(line for line in lines if not line.startswith("Tag=corrected:")))
    saturation = next(check for check in summarise(run)["verdict"]["checks"] if check["rule"] == "saturation")
    assert (saturation["limit"], saturation["passed"]) == (None, None)


def test_too_few_users_saturate_nothing(copy_of: Callable[[str], Path]) -> None:
    """Recorded at the fixed rate, as a run of so few users that no request waits for another."""
    run = copy_of("busy-machine")
    shutil.copy(run / "arms/L-r4-1/latency.hlog", run / "arms/S-r4-1")
    shutil.copy(run / "arms/L-r4-1/events.jsonl", run / "arms/S-r4-1")
    verdict = summarise(run)["verdict"]
    assert verdict["result"] == "INCONCLUSIVE"
    assert "saturation is 1, limit 2" in verdict["sentence"]
    assert "raise bench_users" in verdict["sentence"]


def test_two_counts_give_no_capacity(recorded: Callable[[str], dict[str, Any]]) -> None:
    scaling = recorded("busy-machine")["scaling"]
    assert scaling["fit"] is None
    assert "needs 4" in scaling["refused"]


def test_a_latency_limit_needs_a_curve(copy_of: Callable[[str], Path]) -> None:
    run = copy_of("busy-machine")
    change(run / "manifest.json", lambda manifest: manifest["settings"].update(capacity_p99_ms=200))
    assert "was not measured; measure a curve: ./counter bench -e bench_curve_loads=" in summarise(run)["scaling"]["refused"]


def four_counts(recorded: Callable[[str], dict[str, Any]]) -> tuple[Settings, list[dict[str, Any]]]:
    """Settings, and arms of phases S and C with the figures of a recorded one: p99 is 100 ms per replica at a load of 1."""
    settings = Settings(replicas=(1, 2, 4, 8), curve_loads=(0.4, 0.8), command="./counter bench -e bench_capacity_p99_ms=200")
    arm = recorded("busy-machine")["arms"][0]
    made = [
        {**arm, **asdict(one), "throughput_rps": 300 * one.replicas * (one.load or 1), "corrected_ms": {"p99": 100 * one.replicas * (one.load or 1)}}
        for one in arms(settings)
        if one.phase in "SC"
    ]
    return settings, [{**one, "achieved_ratio": 1.0, "answered_ratio": 1.0} for one in made]


@pytest.mark.parametrize(("limit", "met"), [(200, "1, 2, 4"), (70, "1"), (5, "no number of")])
def test_rates_that_too_few_counts_met_give_another_advice(recorded: Callable[[str], dict[str, Any]], limit: float, met: str) -> None:
    settings, measured = four_counts(recorded)
    said = _scaling(replace(settings, capacity_p99_ms=limit), measured)["refused"]
    assert said.startswith(f"p99 was at most {limit} ms at a measured rate with {met} replicas, and 4 different counts are needed.")
    assert said.endswith("Measure lower rates: ./counter bench -e bench_capacity_p99_ms=200 -e bench_curve_loads=[0.2,0.4]")


# A Locust file that sends a second request in some turns hides turns that were never answered.
@pytest.mark.parametrize(("achieved", "answered"), [(0.9, 0.9), (1.2, 1.0), (0.99, 0.9)])
def test_arms_with_another_rate_than_was_due_say_nothing_of_the_capacity(recorded: Callable[[str], dict[str, Any]], achieved: float, answered: float) -> None:
    settings, measured = four_counts(recorded)
    other = [{**one, "achieved_ratio": achieved, "answered_ratio": answered} for one in measured]
    assert "with no number of replicas" in _scaling(replace(settings, capacity_p99_ms=200), other)["refused"]


@pytest.mark.parametrize(("limit", "interval"), [(None, "95% interval"), (400, "rough interval")])
def test_one_point_per_count_gives_a_rough_interval(recorded: Callable[[str], dict[str, Any]], limit: float | None, interval: str) -> None:
    settings, measured = four_counts(recorded)
    scaling = _scaling(replace(settings, capacity_p99_ms=limit, capacity_rps=900), measured)
    assert scaling["fit"]["interval"] == interval
    summary = {**recorded("busy-machine"), "scaling": scaling}
    schema = json.loads((ROOT / "bench/summary.schema.json").read_text())
    jsonschema.validate(json.loads(json.dumps(summary)), schema, cls=jsonschema.Draft202012Validator)
    page = html(json.loads(json.dumps(summary)))
    assert f'<span data-text="scaling.fit.interval">{interval}</span>: ' in page
    assert f"{interval}, low" in page
    assert ("95%" in page) == (interval == "95% interval")


def test_baseline_is_itself_without_change(recorded: Callable[[str], dict[str, Any]], tmp_path: Path) -> None:
    summary = recorded("busy-machine")
    (tmp_path / "summary.json").write_text(json.dumps(summary))
    result = compare(summary, tmp_path)
    assert result["comparable"]
    assert {row["change"] for row in result["rows"]} == {0.0}


@pytest.mark.parametrize(("fact", "value", "difference"), [("cores", 64, "cores: 64 then, 2 now"), ("shared_host", False, "shared_host: False then, True now")])
def test_baseline_of_other_machines_is_not_compared(
    recorded: Callable[[str], dict[str, Any]], tmp_path: Path, fact: str, value: object, difference: str
) -> None:
    summary = recorded("busy-machine")
    other = json.loads(json.dumps(summary))
    other["environment"][fact] = value
    (tmp_path / "summary.json").write_text(json.dumps(other))
    result = compare(summary, tmp_path / "summary.json")
    assert not result["comparable"]
    assert result["rows"] == []
    assert result["differences"] == [difference]


def test_a_change_is_shown_beside_what_equal_runs_differ_by(recorded: Callable[[str], dict[str, Any]], tmp_path: Path) -> None:
    """Saturated, the four replicas served 964.3 and 897.0 requests/s."""
    summary = recorded("busy-machine")
    once = {**summary, "arms": [arm for arm in summary["arms"] if arm["index"] == 1]}
    (tmp_path / "summary.json").write_text(json.dumps(summary))
    shown = [html({**one, "baseline": compare(one, tmp_path)}) for one in (summary, once)]
    assert ">7.5%</data> within this run; a smaller change says nothing." in shown[0]
    assert "Each count was saturated once, so it is not known which changes are noise." in shown[1]


def test_counts_are_compared_wherever_they_are_in_the_list(recorded: Callable[[str], dict[str, Any]], tmp_path: Path) -> None:
    """A speed-up is only comparable over the same first count."""
    summary = recorded("busy-machine")
    other = json.loads(json.dumps(summary))
    other["counts"][0] |= {"replicas": 2}
    other["counts"].insert(1, {**other["counts"][0], "replicas": 3})
    (tmp_path / "summary.json").write_text(json.dumps(other))
    rows = compare(summary, tmp_path)["rows"]
    assert {row["replicas"] for row in rows} == {4}
    assert "speed-up" not in {row["figure"] for row in rows}


@pytest.mark.parametrize(("share", "alike"), [(1.04, True), (0.96, True), (1.3, False), (0.7, False)])
def test_latency_is_compared_at_one_rate_only(recorded: Callable[[str], dict[str, Any]], tmp_path: Path, share: float, alike: bool) -> None:
    summary = recorded("busy-machine")
    other = json.loads(json.dumps(summary))
    for row in other["counts"]:
        row["latency"]["rate_rps"] *= share
    (tmp_path / "summary.json").write_text(json.dumps(other))
    result = compare(summary, tmp_path)
    assert result["comparable"]
    changes = {row["figure"]: row["change"] for row in result["rows"] if row["replicas"] == 4}
    then, now = (side["counts"][1]["latency"]["rate_rps"] for side in (other, summary))
    rates = f"at {then:,.0f} requests/s then, {now:,.0f} now"
    latency = 0.0 if alike else None
    assert changes == {"requests/s, saturated": 0.0, f"p99 in ms {rates}": latency, f"p50 in ms {rates}": latency, "speed-up": 0.0}
    schema = json.loads((ROOT / "bench/summary.schema.json").read_text())
    jsonschema.validate({**summary, "baseline": result}, schema, cls=jsonschema.Draft202012Validator)
    assert ("not compared" not in markdown({**summary, "baseline": result})) == alike
    assert ("different rates" not in html({**summary, "baseline": result})) == alike
