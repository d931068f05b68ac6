"""What gunicorn serves: ``gunicorn -c python:counter.gunicorn_conf counter.wsgi:app``."""

from counter.application import create_app

app = create_app()
