# A test host: a Debian server before any deployment. BASE is Debian's minimal system.
ARG BASE
FROM ${BASE} AS server
RUN apt-get update \
    && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends \
        ca-certificates dbus iproute2 kmod openssh-server procps python3 python3-apt sudo systemd-sysv \
    && apt-get clean && rm -rf /var/lib/apt/lists/* \
    && useradd --create-home --shell /bin/bash admin \
    && echo 'admin ALL=(ALL) NOPASSWD: ALL' >/etc/sudoers.d/admin \
    && install -d -o admin -g admin -m 0700 /home/admin/.ssh \
    && : >/etc/machine-id

# A host that shares the kernel of this machine: systemd in a container.
FROM server AS container
# A container has no devices and no consoles to manage.
RUN systemctl mask systemd-udevd.service systemd-logind.service getty.target console-getty.service
STOPSIGNAL SIGRTMIN+3
CMD ["/sbin/init"]

# A host with its own kernel: Debian's User Mode Linux, which runs as a process and needs no hardware virtualization.
FROM server AS machine
RUN apt-get update \
    && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends e2fsprogs ifupdown iptables user-mode-linux \
    && apt-get clean && rm -rf /var/lib/apt/lists/* \
    && ln -sT /usr/lib/uml/modules /usr/lib/modules \
    # This kernel has no nf_tables for iptables, and does not load the old tables for another network namespace.
    && update-alternatives --set iptables /usr/sbin/iptables-legacy \
    && update-alternatives --set ip6tables /usr/sbin/ip6tables-legacy \
    && printf '%s\n' iptable_filter iptable_nat >/etc/modules-load.d/iptables.conf \
    # Nobody uses its consoles.
    && systemctl mask getty.target
COPY --chmod=0755 machine /usr/local/sbin/machine
VOLUME /disk
CMD ["machine"]
