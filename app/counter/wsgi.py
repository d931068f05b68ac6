"""What gunicorn serves: ``gunicorn -c python:counter.gunicorn_conf counter.wsgi:app``."""

from counter import create_app

app = create_app()
