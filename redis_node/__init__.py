"""The program of a Redis node where nodes replicate: decides how its server starts, and hands over before it stops.

Runs in the image ``redis-node`` as process 1, with the standard library and hiredis alone.
"""
