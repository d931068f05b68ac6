"""Benchmark of the hot path: what a durable increment costs against simpler ways.

Run ``python -m hotpath`` in ``app``.
"""
