"""Which backups and logs of a stack are outdated: a pure function of what there is, the plan and the time."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

from backup.plan import Plan
from backup.saved import Log, Saved

PERIODS = {"hourly": "%Y%m%dT%H", "daily": "%Y%m%d", "weekly": "%GW%V", "monthly": "%Y%m", "yearly": "%Y"}
"""The units of ``Plan.keep``, and what all times of a period have in common. Of each, the newest backup stays."""
UNPROVED_KEPT = 3


def outdated(backups: Sequence[Saved], logs: Sequence[Log], plan: Plan, now: datetime) -> list[Saved | Log]:
    """Return what need not stay of a stack's backups and logs, the oldest first. Bad backups are not judged here.

    The newest proved backup stays, whatever a clock said. What was made while the clock was ahead is in the future, so
    it stays until then, and takes the place of nothing. Logs stay that have moments after the newest proved backup.
    """
    past = [
        saved for saved in backups if datetime.fromisoformat(saved.time) <= now and not saved.bad and not saved.held
    ]
    newest = [one for one in backups if one.proved and not one.replaced][-1:]
    kept = {saved.id for saved in newest}
    kept |= _of_periods([saved for saved in past if saved.proved and not saved.replaced], plan)
    kept |= {saved.id for saved in _recent([saved for saved in past if saved.proved and saved.replaced], plan)}
    kept |= {saved.id for saved in [saved for saved in past if not saved.proved][-UNPROVED_KEPT:]}
    ended = [log for log in logs if datetime.fromisoformat(log.until) <= now]
    recent = _recent(ended, plan)
    for saved in newest:
        recent += [log for log in ended if datetime.fromisoformat(log.until) > datetime.fromisoformat(saved.time)]
    return [
        *(saved for saved in past if plan.keep and saved.id not in kept),
        *(log for log in ended if log not in recent),
    ]


def _of_periods(proved: Sequence[Saved], plan: Plan) -> set[str]:
    """Return the ids of the newest backups, and of the newest one of each of the newest periods."""
    kept = set()
    for unit, number in plan.keep.items():
        newest: dict[str, str] = {}
        for saved in reversed(proved):
            time = datetime.fromisoformat(saved.time)
            newest.setdefault(f"{time:{PERIODS[unit]}}" if unit in PERIODS else saved.id, saved.id)
        kept |= set(list(newest.values())[:number])
    return kept


def _recent[S: (Saved, Log)](found: Sequence[S], plan: Plan) -> list[S]:
    """Return those that are at most ``log_days`` older than the newest one."""
    times = [datetime.fromisoformat(one.until if isinstance(one, Log) else one.time) for one in found]
    oldest = max(times) - timedelta(days=plan.log_days) if times else None
    return [one for one, time in zip(found, times, strict=True) if oldest and time >= oldest]
