"""What can go wrong with a backup."""

from __future__ import annotations


class BackupError(Exception):
    """A backup could not be made, proved or restored; the text says why."""


class NoRepositoryError(BackupError):
    """There is no repository."""


class UnreadableError(BackupError):
    """A backup cannot be read now, which says nothing of what was saved."""


class MissingError(UnreadableError):
    """The index of the repository lacks a part of a backup."""


class BadBackupError(UnreadableError):
    """A backup is not what was saved."""
