"""Backups of a stack in a restic repository: made, proved, listed, and restored.

One program does all of it. It runs in the service ``backup`` of the stack, started by ``./counter backup`` and
``./counter restore``, or by its own schedule.
"""
