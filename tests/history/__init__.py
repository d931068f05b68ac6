"""Histories of operations on a counter: recorded by concurrent clients from outside, checked afterwards.

    python -m history record --url http://127.0.0.1 --clients 16 --seconds 60 --out drill.jsonl
    python -m history check drill.jsonl

(with ``tests`` on PYTHONPATH). Only the standard library is used, so that a load generator host needs Python alone.
"""
