"""The benchmark's arithmetic, its Locust plugins and its report.

Locust generates the load. This package plans the arms and records one latency histogram per second, so that the report can
leave out the ramp, which Locust's totals include. It then compares the counter with the acknowledged increments and writes the report.
"""
