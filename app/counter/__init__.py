"""A counter backed by Redis.

Nothing is imported here: ``gunicorn_conf`` has to set the environment before prometheus_client is imported.
"""
