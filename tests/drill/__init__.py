"""Breaks the Redis nodes of a deployed stack while clients count from outside, and judges what the clients saw."""
