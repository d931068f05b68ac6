"""The steps of a benchmark, one command each; the role ``bench`` calls them in this order.

python -m bench plan RUN            writes RUN/manifest.json from RUN/settings.json and prints the steps as JSON
python -m bench guard RUN COMMAND   runs COMMAND if the playbook is interrupted
python -m bench ceiling RUN         measures the generator's own limit and adds it to the manifest
python -m bench arm RUN NAME        runs one arm
python -m bench report RUN          writes summary.json, summary.md and report.html; exits with the verdict's code
python -m bench compare DIRECTORY   writes one page over the runs in DIRECTORY; exits with the worst verdict's code
"""

import argparse
import json
import os
import shutil
import signal
import sys
import traceback
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from bench import ceiling, comparison, environment, guard, report, verdict
from bench.arm import CounterUnreadable, load_recording, run_arm
from bench.generator import GeneratorFailed
from bench.plan import Arm, Settings, arms, steps
from bench.summary import summarise
from bench.warmup import NotAllAnswered

PACKAGE = Path(__file__).parent


def main(arguments: list[str] | None = None) -> int:
    """Run one step. An expected error prints one line to stderr, a bug prints a traceback; both exit with code 3."""
    parser = argparse.ArgumentParser(prog="python -m bench", description="Steps of a benchmark; ./counter bench runs them all.")
    steps = parser.add_subparsers(dest="step", required=True)
    for name in ("plan", "ceiling", "arm", "report"):
        step = steps.add_parser(name)
        step.add_argument("run", type=Path, help="directory of the run")
        if name == "arm":
            step.add_argument("name", help="name of the arm, as printed by plan")
        if name == "plan":
            step.add_argument("--min-free-mib", type=int, default=200, help="free space that the run needs, in MiB")
        if name in ("arm", "ceiling"):
            step.add_argument("--locustfile", type=Path, default=PACKAGE / "locustfile.py")
        if name == "report":
            step.add_argument("--baseline", type=Path)
    step = steps.add_parser("guard")
    step.add_argument("run", type=Path)
    step.add_argument("command", nargs="+")
    step = steps.add_parser("compare")
    step.add_argument("directory", type=Path, help="directory that contains the runs")
    step.add_argument("--strict", action="store_true", help="treat INCONCLUSIVE as a failure")
    options = parser.parse_args(arguments)
    try:
        return STEPS[options.step](options)
    except (GeneratorFailed, NotAllAnswered, CounterUnreadable, LookupError, ValueError, OSError) as error:
        print(f"bench {options.step}: {error}", file=sys.stderr)
    except Exception:  # noqa: BLE001  # uncaught, it would exit with 1, the code of the verdict FAIL
        traceback.print_exc()
    return 3


def plan_step(options: argparse.Namespace) -> int:
    """Check the settings, record the environment and print the steps."""
    given = json.loads((options.run / "settings.json").read_text())
    settings = Settings.from_mapping(given["settings"])
    free = shutil.disk_usage(options.run).free // 2**20
    if free < options.min_free_mib:
        # With workers, this runs on a load generator.
        place = "bench_loadgen_dir" if settings.workers else "bench_reports"
        raise ValueError(f"{options.run.resolve()} has {free} MiB free, but {options.min_free_mib} are needed; use another directory: -e {place}=DIRECTORY")
    manifest = {
        "run": {"id": options.run.resolve().name, "started": _now(), "finished": None},
        "settings": settings.as_dict(),
        "environment": {**environment.of_generator(PACKAGE.parent), **given["environment"]},
        "ceiling": None,
    }
    _write_manifest(options.run, manifest)
    print(json.dumps(steps(settings, options.run)))
    return 0


def ceiling_step(options: argparse.Namespace) -> int:
    """Measure the generator against a trivial server."""
    manifest, settings = _read(options.run)
    manifest["ceiling"] = ceiling.measure(settings, options.run, options.locustfile.resolve())
    _write_manifest(options.run, manifest)
    print(f"ceiling: {manifest['ceiling']['throughput_rps']:,.0f} requests/s")
    return 0


def arm_step(options: argparse.Namespace) -> int:
    """Run one arm of the plan; phases L and C derive their rate from the throughput of phase S."""
    _, settings = _read(options.run)
    arm = next((arm for arm in arms(settings) if arm.name == options.name), None)
    if arm is None:
        raise ValueError(f"no arm {options.name!r} in the plan: {', '.join(arm.name for arm in arms(settings))}")
    # The guard reads this file to stop the arm, and Locust with it.
    (options.run / "arm.pid").write_text(str(os.getpid()))
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    # Each arm of each run uses a new counter, which starts at 0 and has no other clients.
    counter = f"bench-{options.run.resolve().name.split('-')[0].lower()}-{arm.name.lower()}"
    run_arm(arm, settings, options.run, counter, _rate(arm, settings, options.run), options.locustfile.resolve())
    print(f"{arm.name}: done")
    return 0


def _rate(arm: Arm, settings: Settings, run: Path) -> float:
    """Request rate of an arm (requests/s): its share of the throughput of phase S; 0 in phase S itself."""
    if arm.load is None:
        return 0.0
    saturated = []
    for other in arms(settings):
        if other.phase == "S" and other.replicas == arm.load_of:
            try:
                throughput = load_recording(run / "arms" / other.name).throughput
            except (FileNotFoundError, KeyError, ValueError):
                continue
            saturated += [throughput] if throughput else []
    if not saturated:
        raise ValueError(f"{arm.name}: phase S has no successful request with {arm.load_of} replicas, from which this arm derives its rate")
    return round(arm.load * sum(saturated) / len(saturated), 1)


def guard_step(options: argparse.Namespace) -> int:
    """Start the guard, which watches the playbook from now on."""
    print(f"guard: process {guard.start(options.run.resolve(), options.command)}")
    return 0


def report_step(options: argparse.Namespace) -> int:
    """Write the report and print the verdict."""
    manifest, settings = _read(options.run)
    manifest["run"]["finished"] = manifest["run"]["finished"] or _now()
    _write_manifest(options.run, manifest)
    summary = summarise(options.run, options.baseline)
    report.write(summary, options.run)
    print(summary["verdict"]["sentence"])
    return verdict.exit_code(summary["verdict"]["result"], settings.strict)


def compare_step(options: argparse.Namespace) -> int:
    """Write one page over several runs; the exit code is that of the worst verdict."""
    summaries = comparison.read(options.directory)
    print(comparison.write(summaries, options.directory))
    return verdict.exit_code(verdict.worst(summary["verdict"]["result"] for summary in summaries), options.strict)


def _read(run: Path) -> tuple[dict[str, Any], Settings]:
    manifest = json.loads((run / "manifest.json").read_text())
    return manifest, Settings.from_mapping(manifest["settings"])


def _write_manifest(run: Path, manifest: dict[str, Any]) -> None:
    (run / "manifest.json").write_text(json.dumps(manifest, indent=2) + "\n")


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


STEPS = {"plan": plan_step, "ceiling": ceiling_step, "guard": guard_step, "arm": arm_step, "report": report_step, "compare": compare_step}

if __name__ == "__main__":
    sys.exit(main())
