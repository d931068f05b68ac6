# The images of the project, one target each: app, redis, redis-node, edge, backup, keeper, registry. All share one Debian base, which a node stores once.
# BASE is a Debian image from a registry, or one that roles/images built from Debian's packages.
# The text of a stage, comments included, and the arguments here are part of the names of images: a change replaces their tasks.
# REVISION is image_revision: a new value invalidates the build cache, so the build installs the current packages.
ARG BASE=debian:trixie-slim

FROM ${BASE} AS python
ARG REVISION
RUN apt-get update \
    && apt-get install -y --no-install-recommends ca-certificates python3 python3-pip-whl \
    && rm -rf /var/lib/apt/lists/* /var/cache/apt/*

FROM python AS app-packages
# Debian's wheel of pip runs as it is, without being installed.
RUN ln -s /usr/share/python-wheels/pip-*.whl /tmp/pip.whl
ENV PYTHONPATH=/tmp/pip.whl PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1
COPY app/requirements.txt /tmp/requirements.txt
# ca: the CA certificates of a site that inspects TLS, used only during the build.
RUN --mount=type=secret,id=ca \
    if [ -s /run/secrets/ca ]; then export PIP_CERT=/run/secrets/ca; fi \
    && python3 -m venv --without-pip /opt/counter \
    && /opt/counter/bin/python -m pip install --no-compile --require-hashes -r /tmp/requirements.txt
COPY app/counter /opt/counter/lib/app/counter
# A checkout may be readable only by its owner, but the app runs as another user.
RUN chmod -R a+rX /opt/counter/lib \
    && python3 -m compileall -q -j 0 -o 2 /opt/counter/lib

FROM python AS app
COPY --from=app-packages /opt/counter /opt/counter
# Without docstrings and with few memory arenas, a replica needs about 8 MiB less memory.
ENV PATH=/opt/counter/bin:$PATH PYTHONPATH=/opt/counter/lib/app PYTHONUNBUFFERED=1 PYTHONOPTIMIZE=2 MALLOC_ARENA_MAX=2
# Debian compiles the standard library only with docstrings. As root, Python stores what it compiles for these imports, so a replica starts faster.
RUN python -c 'import flask, gunicorn.app.wsgiapp, gunicorn.workers.gthread, prometheus_client, redis.cluster, redis.sentinel'
USER 10001:10001
EXPOSE 8000
# Exec form: gunicorn is process 1 and receives SIGTERM, which starts its drain.
CMD ["gunicorn", "-c", "python:counter.gunicorn_conf", "counter.wsgi:app"]

FROM python AS redis
RUN apt-get update \
    && apt-get install -y --no-install-recommends redis-server \
    && rm -rf /var/lib/apt/lists/* /var/cache/apt/* \
    && install -d -o 10002 -g 10002 -m 0700 /data
COPY --chmod=0755 redis_node/hold-volume /usr/local/bin/hold-volume
USER 10002:10002
WORKDIR /data
VOLUME /data
EXPOSE 6379
# Whatever a service runs in this image, it is the only one that uses its volume.
ENTRYPOINT ["hold-volume", "/data"]
CMD ["redis-server", "/etc/redis.conf"]

FROM redis AS redis-node
# Redis for topologies with replication: the program redis_node starts the server, and hands over its role before it stops.
USER root
RUN apt-get update \
    && apt-get install -y --no-install-recommends python3-hiredis \
    && rm -rf /var/lib/apt/lists/* /var/cache/apt/*
COPY redis_node /opt/redis-node/redis_node
RUN chmod -R a+rX /opt/redis-node \
    && python3 -m compileall -q /opt/redis-node
ENV PYTHONPATH=/opt/redis-node PYTHONUNBUFFERED=1
USER 10002:10002
CMD ["python3", "-m", "redis_node", "run"]

FROM ${BASE} AS edge
ARG REVISION
RUN apt-get update \
    && apt-get install -y --no-install-recommends haproxy \
    && rm -rf /var/lib/apt/lists/* /var/cache/apt/*
USER 10003:10003
EXPOSE 8080
# HAProxy ends its open requests after SIGUSR1; SIGTERM would cut them.
STOPSIGNAL SIGUSR1
# The master process starts a worker for each configuration, and answers on the port (roles/edge).
# Where the kernel has no IPv6, a bind to an address of it would fail.
CMD ["sh", "-c", "[ ! -e /proc/net/if_inet6 ] || export IPV6=1; exec haproxy -W -db -S 127.0.0.1:8405 -f /etc/edge/current"]

FROM app-packages AS backup-packages
COPY backup/requirements.txt /tmp/backup.txt
RUN --mount=type=secret,id=ca \
    if [ -s /run/secrets/ca ]; then export PIP_CERT=/run/secrets/ca; fi \
    && /opt/counter/bin/python -m pip install --no-compile --require-hashes -r /tmp/backup.txt
COPY backup /opt/counter/lib/backup
RUN chmod -R a+rX /opt/counter/lib \
    && python3 -m compileall -q -j 0 /opt/counter/lib

FROM python AS backup
# A Redis of its own restores each backup, to prove it.
RUN apt-get update \
    && apt-get install -y --no-install-recommends openssh-client redis-server restic \
    && rm -rf /var/lib/apt/lists/* /var/cache/apt/*
COPY --from=backup-packages /opt/counter /opt/counter
ENV PATH=/opt/counter/bin:$PATH PYTHONPATH=/opt/counter/lib:/opt/counter/lib/app PYTHONUNBUFFERED=1
# As root, since only root can read the state directory of the stack, which is a part of each backup.
CMD ["python", "-m", "backup", "serve"]

FROM python AS keeper-packages
RUN ln -s /usr/share/python-wheels/pip-*.whl /tmp/pip.whl
ENV PYTHONPATH=/tmp/pip.whl PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1
COPY keeper/requirements.txt /tmp/requirements.txt
RUN --mount=type=secret,id=ca \
    if [ -s /run/secrets/ca ]; then export PIP_CERT=/run/secrets/ca; fi \
    && python3 -m venv --without-pip /opt/keeper \
    && /opt/keeper/bin/python -m pip install --no-compile --require-hashes -r /tmp/requirements.txt
COPY keeper /opt/keeper/lib/keeper
RUN chmod -R a+rX /opt/keeper/lib \
    && python3 -m compileall -q -j 0 /opt/keeper/lib

FROM python AS keeper
COPY --from=keeper-packages /opt/keeper /opt/keeper
ENV PATH=/opt/keeper/bin:$PATH PYTHONPATH=/opt/keeper/lib PYTHONUNBUFFERED=1
EXPOSE 8406
# As root, since only root can read the keys and the certificate in the state directory of the stack.
CMD ["python", "-m", "keeper"]

FROM ${BASE} AS registry
ARG REVISION
RUN apt-get update \
    && apt-get install -y --no-install-recommends docker-registry \
    && rm -rf /var/lib/apt/lists/* /var/cache/apt/* \
    && install -d -o docker-registry -g docker-registry /var/lib/docker-registry \
    && printf '%s\n' 'version: 0.1' 'storage: {filesystem: {rootdirectory: /var/lib/docker-registry}}' 'http: {addr: ":5000"}' \
       > /etc/docker/registry/config.yml
USER docker-registry
VOLUME /var/lib/docker-registry
EXPOSE 5000
CMD ["docker-registry", "serve", "/etc/docker/registry/config.yml"]
