"""What can go wrong with a backup."""

from __future__ import annotations


class BackupError(Exception):
    """A backup could not be made, proved or restored; the text says why."""


class BadBackupError(BackupError):
    """A backup is not what was saved."""
