"""The benchmark's arithmetic, its Locust plugins and its report.

Locust makes the load; this package says which arms to run, records what Locust sums up too early (one histogram
per second, so that the ramp can be left out), compares the counter with what the clients were told, and writes the report.
"""
