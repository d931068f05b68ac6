"""Histories of operations on a counter: recorded by concurrent clients from outside, checked afterwards.

    python -m history check drill.jsonl

(in ``tests``). Only the standard library is used, so that a load generator host needs Python alone.
"""
