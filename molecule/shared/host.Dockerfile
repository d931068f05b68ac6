# A test host: what a Debian server has before anybody deploys to it, and no more. BASE is Debian's minimal system.
ARG BASE
FROM ${BASE}
RUN apt-get update \
    && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends \
        ca-certificates dbus iproute2 kmod openssh-server procps python3 python3-apt sudo systemd-sysv \
    && apt-get clean && rm -rf /var/lib/apt/lists/* \
    # Empty lists that look fresh would keep Ansible from updating them.
    && touch -d @0 /var/lib/apt/lists \
    && useradd --create-home --shell /bin/bash admin \
    && echo 'admin ALL=(ALL) NOPASSWD: ALL' >/etc/sudoers.d/admin \
    && install -d -o admin -g admin -m 0700 /home/admin/.ssh \
    && : >/etc/machine-id
# There are no devices and no consoles to look after in a container.
RUN systemctl mask systemd-udevd.service systemd-logind.service getty.target console-getty.service
STOPSIGNAL SIGRTMIN+3
CMD ["/sbin/init"]
