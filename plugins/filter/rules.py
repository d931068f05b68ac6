"""Filter for the settings' rules that read several settings, files or the inventory.

Those for one value are in the table of settings (roles/settings/meta/settings.yml). ``misplaced`` finds settings in an
inventory that no rule sees.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from datetime import UTC, datetime
from ipaddress import IPv6Network, ip_network
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import yaml
from ansible.module_utils.common.text.formatters import human_to_bytes

CRON_FIELDS = 5
SWARM_PORTS = {"2377", "7946"}
MOST_CERTIFICATES = 29
# Variables of the app that app_environment cannot set: the project sets them itself, or nothing reads them.
OWN_ENVIRONMENT = re.compile(r"RES_OPTIONS$|COUNTER_(?!(KEY_SECONDS|HISTORY_LOG)$)")
OWN_RESTIC = re.compile(r"(RESTIC_(PASSWORD|REPOSITORY)(_FILE|_COMMAND)?|TMPDIR|TZ)$")
KEY_SECONDS = 600
PARTS_OF_GROUP = {"vars", "children", "hosts"}
MOST_KEY_SECONDS = 604800
PORT = r"([0-9]{1,4}|[1-5][0-9]{4}|6[0-4][0-9]{3}|65[0-4][0-9]{2}|655[0-2][0-9]|6553[0-5])"
OPEN_PORT = re.compile(rf"(?!0){PORT}/(tcp|udp)")
REDIS_URL = re.compile(rf"rediss?://([^@/?#\s\[\]]*@)?(\[[0-9A-Fa-f:.]+\]|[^\s/@:?#\[\]]+)(:{PORT})?(/[0-9]*)?")
LOCAL_URL = re.compile(r"//([^@/]*@)?(localhost|127[.][0-9.]+|\[::1\])([:/]|$)")
LOCAL_REGISTRY = re.compile(r"(localhost([.]localdomain)?|127[.][0-9.]+)([:/]|$)")
ORIGIN = re.compile(r"\*|https?://([a-z0-9.-]+|\[[0-9a-f:.]+\])(:[0-9]{1,5})?")
DOMAIN = re.compile(r"([a-z0-9]([a-z0-9-]*[a-z0-9])?\.)+[a-z0-9]([a-z0-9-]*[a-z0-9])?")
NOTIFY_URL = re.compile(r"[a-z][a-z0-9+]*://\S+")
BACKUP = "20261126T030000Z"
KEPT = {"last", "hourly", "daily", "weekly", "monthly", "yearly"}

Broken = dict[str, Any]
"""A rule that does not hold.

``name``: the setting. ``rule``: what it must do; without it, that of the table. ``works``: options that work, or a
text; without it, what the table or the default says. ``shown``: what is shown instead of the value.
"""


def broken_rules(settings: Mapping[str, Any], facts: Mapping[str, Any]) -> list[Broken]:
    """Return the rules that these settings break; a value of a wrong type is given as it is.

    ``facts``: what else the rules need, `__preflight_facts` (roles/preflight/vars/main/rules.yml).
    """
    values, known = SimpleNamespace(**settings), SimpleNamespace(**facts)
    families = (
        *(_edge, _firewall, _https, _app, _topology, _registry, _maintenance, _data),
        *(_repository, _backups, _backup, _messages, _confirmed, _node),
    )
    return [broken for family in families for broken in family(values, known)]


def _broken(name: str, rule: str = "", works: Mapping[str, Any] | str | None = None) -> Broken:
    return {"name": name} | ({"rule": rule} if rule else {}) | ({} if works is None else {"works": works})


def _edge(s: SimpleNamespace, known: SimpleNamespace) -> Iterator[Broken]:
    taken = {"http_port": SWARM_PORTS, "https_port": {str(s.http_port), *SWARM_PORTS}}
    yield from (_broken(name) for name, ports in taken.items() if str(getattr(s, name)) in ports)
    if s.edge_tls == "acme" and str(s.http_port) != "80":
        rule = "must be 80 with edge_tls=acme, since the authority connects to port 80"
        yield _broken("http_port", rule, {"http_port": 80})
    for name in ("edge_requests_per_second", "edge_connections_per_client"):
        if s.edge == "mesh" and str(getattr(s, name)) != "0":
            yield _broken(name, "must be 0 with edge=mesh, which hides the clients' addresses")
    if s.edge == "mesh" and s.edge_request_log == "addresses":
        rule = "must be none or requests with edge=mesh, which hides the clients' addresses"
        yield _broken("edge_request_log", rule, {"edge_request_log": "requests"})
    proxies = s.edge_trusted_proxies
    if isinstance(proxies, list):
        if proxies and s.edge == "mesh":
            rule = "must be empty with edge=mesh, which hides the addresses of proxies, too"
            yield _broken("edge_trusted_proxies", rule, {"edge_trusted_proxies": []})
        elif not all(map(_is_network, map(str, proxies))):
            yield _broken("edge_trusted_proxies")
        if s.edge_proxy_protocol is True and not proxies:
            yield _broken("edge_proxy_protocol", "must be false without edge_trusted_proxies, of which it says more")
    if known.managers not in (1, 3, 5, 7):
        rule = (
            "must be 1, 3, 5 or 7 hosts of the inventory, since an even number survives no more losses than the odd "
            "number below it; other hosts can be workers"
        )
        works = "-i inventory/cluster.yml, after moving one host from managers to workers"
        yield _broken("managers", rule, works) | {"shown": f"{known.managers} hosts"}


def _firewall(s: SimpleNamespace, _: SimpleNamespace) -> Iterator[Broken]:
    opened = s.firewall_open
    if (
        isinstance(opened, list)
        and opened
        and (s.firewall == "none" or not all(OPEN_PORT.fullmatch(str(one)) for one in opened))
    ):
        yield _broken("firewall_open")


def _https(s: SimpleNamespace, known: SimpleNamespace) -> Iterator[Broken]:
    pairs, domains = s.edge_certificates, s.edge_domains
    faults = [one["fault"] for one in known.certificates if one["fault"]]
    # Another verb may be typed where the files are missing.
    judged = s.edge_tls == "own" and known.reads_files
    if judged and (faults or not known.certificates):
        rule = "must be a list of certificates and keys that HAProxy can serve with edge_tls=own"
        yield _broken("edge_certificates", "; ".join([rule, *faults]), {"edge_tls": "none", "edge_certificates": []})
    # A restore takes edge_tls from the backup.
    unused = pairs != [] and s.edge_tls != "own" and known.verb != "restore"
    if isinstance(pairs, list) and (len(pairs) > MOST_CERTIFICATES or unused):
        yield _broken(
            "edge_certificates",
            f"must be a list of at most {MOST_CERTIFICATES} entries, and must be empty without edge_tls=own",
        )
    if judged and known.certificates and not faults and known.unserved:
        names = dict.fromkeys(name for one in known.certificates for name in one["names"] if "*" not in name)
        rule = f"must be names of the certificates; no certificate has {', '.join(known.unserved)}"
        yield _broken("edge_domains", rule, {"edge_domains": list(names)})
    if isinstance(domains, list):
        texts = list(map(str, domains))
        if s.edge_tls == "own" and any("*" in text for text in texts):
            rule = "must be names without wildcards, since the first one is in the address of the counter"
            yield _broken("edge_domains", rule)
        if s.edge_tls == "acme" and not (texts and all(map(DOMAIN.fullmatch, texts))):
            yield _broken(
                "edge_domains",
                "must be the full names of hosts in lower case, without wildcards, for which an authority can issue a "
                "certificate with edge_tls=acme",
                {"edge_domains": "counter.example"},
            )
        if s.edge_tls == "none" and domains:
            yield _broken("edge_domains", "must be a list, and must be empty with edge_tls=none")
    if s.edge_tls != "acme" and s.acme_email not in ("", None):
        yield _broken("acme_email")
    if s.edge_tls == "none" and str(s.edge_hsts_seconds) != "0":
        yield _broken("edge_hsts_seconds", "must be a whole number, and 0 with edge_tls=none, which would ignore it")


def _app(s: SimpleNamespace, _: SimpleNamespace) -> Iterator[Broken]:
    if isinstance(s.cors_origins, list) and not all(ORIGIN.fullmatch(str(origin)) for origin in s.cors_origins):
        yield _broken("cors_origins")
    given = s.app_environment
    if not isinstance(given, Mapping):
        return
    names = list(map(str, given))
    if not all(re.fullmatch("[A-Z_][A-Z0-9_]*", name) for name in names) or any(map(OWN_ENVIRONMENT.match, names)):
        yield _broken("app_environment")
    least = max(10, 2 * s.app_deadline_seconds if isinstance(s.app_deadline_seconds, int) else 0)
    seconds = _number(given.get("COUNTER_KEY_SECONDS", KEY_SECONDS))
    if not (_are_plain(given) and least <= seconds <= MOST_KEY_SECONDS):
        yield _broken(
            "app_environment",
            "must have texts or numbers as values, and as COUNTER_KEY_SECONDS a number from 10 (at least twice "
            f"app_deadline_seconds) to {MOST_KEY_SECONDS}",
        )


def _topology(s: SimpleNamespace, known: SimpleNamespace) -> Iterator[Broken]:
    names = list(known.topologies)
    name = s.redis_topology if s.redis_topology in names else names[0]
    topology = known.topologies[name]
    if name != s.redis_topology:
        rule = f"must be {', '.join(names[:-1])} or {names[-1]}"
        yield _broken("redis_topology", rule, {"redis_topology": name})
    is_about_nodes = name == s.redis_topology or not isinstance(s.redis_replicas, int)
    if is_about_nodes and s.redis_replicas not in topology["allowed_nodes"]:
        works = {"redis_topology": name, "redis_replicas": topology["default_nodes"]}
        yield _broken("redis_replicas", f"must be {topology['nodes_rule']} with redis_topology={name}", works)
    if s.backup_repository and not topology["movable"]:
        reason = "whose operator backs it up" if topology["exact"] else "where each node holds other values"
        rule = f"must be empty with redis_topology={name}, {reason}"
        yield _broken("backup_repository", rule, {"backup_repository": ""})
    # Somebody else operates Redis.
    external = not topology["default_nodes"]
    if external:
        yield from _external(s, name)
    elif s.redis_url not in ("", None):
        yield _broken("redis_url", f"must be empty with redis_topology={name}, which would ignore it")
    if s.redis_rotate is True and (external or s.redis_password):
        yield _broken(
            "redis_rotate",
            "must be false unless the project generates the password. To rotate your own redis_password, deploy "
            "another one. The operator of an external Redis changes its password; then set redis_url to the new one",
        )


def _external(s: SimpleNamespace, topology: str) -> Iterator[Broken]:
    works = {"redis_topology": topology, "redis_url": "redis://192.0.2.20:6379/0"}
    if not REDIS_URL.fullmatch(str(s.redis_url)):
        yield _broken(
            "redis_url",
            "must be redis:// or rediss:// with a host, and optionally a login, a port and a database number, but no "
            "options after `?`, when the project deploys no Redis. Percent-encode special characters of a password",
            works,
        )
    if LOCAL_URL.search(str(s.redis_url)):
        rule = "must be an address that the nodes reach; in the containers of the app, this one is the container itself"
        yield _broken("redis_url", rule, works)
    only = f"with redis_topology={topology}"
    if s.redis_tls is True:
        yield _broken("redis_tls", f"must be false {only}, where rediss:// in redis_url selects TLS")
    if s.redis_password:
        yield _broken("redis_password", f"must be empty {only}; the password is part of redis_url")
    if s.write_concern in ("majority", "all"):
        rule = f"must be none {only}, since the project does not know how many replicas that Redis has"
        yield _broken("write_concern", rule)


def _registry(s: SimpleNamespace, known: SimpleNamespace) -> Iterator[Broken]:
    address = str(s.image_registry)
    if s.image_distribution == "registry" and known.hosts > 1 and LOCAL_REGISTRY.match(address):
        rule = (
            "must be an address that every node can reach if there are several nodes; localhost is a different machine "
            "on each"
        )
        works = {"image_registry": f"{known.address.replace('localhost', 'ADDRESS')}:5000"}
        yield _broken("image_registry", rule, works)
    if not known.registry_is_own:
        return
    host, port = address.partition(":")[0], address.rpartition(":")[2]
    if not re.fullmatch(rf"[^:/]+:{PORT}", address) or int(port) == 0:
        yield _broken(
            "image_registry",
            "must be an address with a port and without a path if the project runs the registry, as it does on the "
            "first manager",
            {"image_registry": f"{host.partition('/')[0]}:5000"},
        )
    taken = {str(s.http_port), *SWARM_PORTS, *([] if s.edge_tls == "none" else [str(s.https_port)])}
    if port in taken:
        rule = (
            "must have another port than http_port, https_port and those of the swarm if the project runs the registry"
        )
        free = next(each for each in ("5000", "5001", "5002", "5003") if each not in taken)
        yield _broken("image_registry", rule, {"image_registry": f"{host}:{free}"})


def _maintenance(s: SimpleNamespace, known: SimpleNamespace) -> Iterator[Broken]:
    on = str(s.on).lower() == "true"
    if isinstance(s.allow, list) and (not all(map(_is_network, map(str, s.allow))) or (s.allow and not on)):
        yield _broken("allow")
    if "text" in known.typed and not on:
        yield _broken("text")


def _data(s: SimpleNamespace, known: SimpleNamespace) -> Iterator[Broken]:
    needed = {"import": ["file", "mode"], "remove": ["counter"]}.get(known.verb, [])
    yield from (_broken(name) for name in needed if getattr(s, name) == "")
    file = Path(str(s.file)).expanduser()
    if known.verb in ("export", "remove") and s.file and file.exists():
        new = f"{Path(s.file).with_suffix('')}-{datetime.fromtimestamp(known.started, UTC):%Y%m%dT%H%M%SZ}{file.suffix}"
        yield _broken("file", "must be a new file, since an export overwrites nothing", {"file": new})
    if known.verb == "import" and re.fullmatch(r".*[^/]\.(csv|json)", str(s.file)) and not file.is_file():
        rule = f"must be a file on this machine; relative names begin at {os.environ.get('PWD', '')}"
        yield _broken("file", rule, f"./counter export{known.stack_option} -e file={s.file}, which writes one")


def _repository(s: SimpleNamespace, known: SimpleNamespace) -> Iterator[Broken]:
    """Judge where backups are, and what restic needs to get there."""
    repositories = [str(s.backup_repository), str(s.backup_copy_repository)]
    if known.verb == "restore" and not s.backup_repository:
        yield _broken("backup_repository", "must say where the backup is")
    if s.backup_copy_repository and s.backup_repository in ("", s.backup_copy_repository):
        yield _broken(
            "backup_copy_repository",
            "must be empty, or another repository than backup_repository, which makes the backups",
        )
    is_sftp = any(each.startswith("sftp:") for each in repositories)
    for name in ("backup_ssh_key", "backup_known_hosts"):
        file = str(getattr(s, name) or "")
        if file and not (is_sftp and (Path(file).expanduser().is_file() or not known.reads_files)):
            yield _broken(name)
    if is_sftp and not (s.backup_ssh_key and s.backup_known_hosts):
        yield _broken(
            "backup_ssh_key",
            "must be given, and backup_known_hosts too, for a backup_repository or backup_copy_repository that begins "
            "with sftp:, since the service cannot ask for a password or confirm a host key",
            {"backup_repository": "/srv/backups", "backup_copy_repository": ""},
        )


def _backups(s: SimpleNamespace, known: SimpleNamespace) -> Iterator[Broken]:
    """Judge how backups are made."""
    if s.backup_rotate is True and (s.backup_password or not s.backup_repository):
        yield _broken(
            "backup_rotate",
            "must be false unless there is a backup_repository and the project makes its password. To replace your own "
            "backup_password, deploy another one",
        )
    given, files = s.backup_environment, s.backup_environment_files
    if isinstance(given, Mapping) and not (_are_for_restic(given) and _are_plain(given)):
        yield _broken("backup_environment")
    if isinstance(files, Mapping):
        there = all(Path(str(file)).expanduser().is_file() for file in files.values()) or not known.reads_files
        if not (_are_for_restic(files) and there):
            yield _broken("backup_environment_files")
    if fault := _cron_fault(str(s.backup_schedule or ""), needed=bool(s.backup_repository)):
        yield _broken("backup_schedule", f"must be a cron expression of five fields, or empty; {fault}")
    kept = s.backup_keep
    if isinstance(kept, Mapping) and not (
        set(kept) <= KEPT and all(re.fullmatch("[1-9][0-9]{0,4}", str(number)) for number in kept.values())
    ):
        yield _broken("backup_keep")
    if _bytes(s.backup_memory) < _bytes(s.redis_memory):
        yield _broken("backup_memory")


def _are_for_restic(names: Iterable[Any]) -> bool:
    """Return whether these are names of variables that restic may get."""
    return all(re.fullmatch("[A-Z_][A-Z0-9_]*", str(name)) and not OWN_RESTIC.match(str(name)) for name in names)


def _backup(s: SimpleNamespace, known: SimpleNamespace) -> Iterator[Broken]:
    """Judge what a run does with backups that exist."""
    if known.verb == "restore" and s.backup == "" and not s.to:
        yield _broken("backup")
    if s.to and (s.backup != "" or not _is_moment(str(s.to))):
        yield _broken("to")
    if s.verify and s.list is True:
        yield _broken("verify")
    asked = [name for name in ("list", "repair") if getattr(s, name) is True]
    asked += [name for name in ("verify", "hold", "unhold", "delete") if getattr(s, name)]
    others = dict.fromkeys(["list", "repair"], False) | dict.fromkeys(["verify", "hold", "unhold", "delete"], "")
    for name in ("hold", "unhold", "delete"):
        value = getattr(s, name)
        if value and not (re.fullmatch("[0-9]{8}T[0-9]{6}Z", str(value)) and len(asked) == 1):
            confirm = {"confirm": s.stack_name} if name == "delete" else {}
            yield _broken(name, works=(others if len(asked) > 1 else {}) | {name: BACKUP} | confirm)
    if s.repair is True and (s.confirm not in _answers(s, known) or len(asked) > 1):
        yield _broken(
            "repair",
            "must be confirmed, and cannot be combined with list, verify, hold, unhold or delete. It removes each "
            "backup and log that needs a damaged or missing file, so first make sure that the storage is well: what "
            "cannot be read now may be there again later",
            {"repair": True, "confirm": s.stack_name},
        )
    if s.copies is True and not (s.list is True or s.verify or s.backup or s.to):
        yield _broken(
            "copies",
            "must be false unless list or verify is given, or for an export, backup or to. A restore reads the copies "
            "if backup_repository names theirs",
            {"copies": False},
        )


def _messages(s: SimpleNamespace, _: SimpleNamespace) -> Iterator[Broken]:
    if isinstance(s.notify_urls, list) and not all(map(NOTIFY_URL.fullmatch, map(str, s.notify_urls))):
        yield _broken("notify_urls")


def _answers(s: SimpleNamespace, known: SimpleNamespace) -> tuple[str | None, ...]:
    """Return what may be typed for ``confirm``. At a terminal, the run asks for it (roles/run/tasks/confirm.yml)."""
    return (s.stack_name, "", None) if known.asks else (s.stack_name,)


def _confirmed(s: SimpleNamespace, known: SimpleNamespace) -> Iterator[Broken]:
    name, verb, confirm = s.stack_name, known.verb, "" if s.confirm is None else s.confirm
    first = str(confirm).partition(",")[0]
    if s.safety is False and first not in _answers(s, known):
        rule = f"must be true, or be confirmed, since the counters of {name} are then replaced for good"
        yield _broken("safety", rule, {"safety": False, "confirm": name})
    if s.redis_primary and not re.fullmatch("redis-[1-9][0-9]?", str(s.redis_primary)):
        yield _broken("redis_primary", works={"redis_primary": "redis-1", "confirm": name})
    # What must be confirmed, and why.
    needed = {
        "delete": (re.match("[0-9]{8}T[0-9]{6}Z", str(s.delete)), "delete removes a backup for good"),
        "purge": (s.purge is True, "purge=true removes its counters for good"),
        "redis_primary": (
            str(s.redis_primary).startswith("redis-"),
            "increments that only other nodes hold would be lost",
        ),
    }
    for option, (asked, reason) in needed.items():
        if asked and confirm not in _answers(s, known):
            rule = f"must repeat the stack's name, {name}, since {reason}"
            yield _broken("confirm", rule, {option: getattr(s, option), "confirm": name})
    meanings = {
        "restore": "its counters are replaced; for another stack's backup, add a comma and that stack's name",
        "deploy": "it allows a deployment to go on without counters that the stack had",
        "node": "it gives up counters that only the host has",
        **dict.fromkeys(
            ["import", "backup", "remove"], "it says that counters may be lower than before, or be removed"
        ),
    }
    if verb in meanings and (first if verb == "restore" else confirm) not in ("", name):
        yield _broken("confirm", f"must be the stack's name, {name}, since {meanings[verb]}", {"confirm": name})


def _node(s: SimpleNamespace, known: SimpleNamespace) -> Iterator[Broken]:
    if known.verb not in ("node", "reboot", "upgrade"):
        return
    works = {"host": s.host if s.host in known.names else known.names[0]}
    if known.verb == "node":
        works["state"] = s.state or "drained"
    if s.host not in known.names and (s.host or known.verb == "node"):
        yield _broken("host", f"must be a host of the inventory: {', '.join(known.names)}", works)
    if known.verb == "node" and not s.state:
        yield _broken("state", works=works)
    if s.dead is True and s.state != "absent":
        yield _broken("dead", "must be false, or be combined with state=absent", works | {"state": "absent", "dead": True})


def _are_plain(values: Mapping[str, Any]) -> bool:
    return all(isinstance(value, str | int | float) for value in values.values())


def _number(value: Any) -> float:
    try:
        return float(value)
    except (TypeError, ValueError):
        return -1


def _bytes(size: Any) -> int:
    """Return the bytes of a size such as 128M; 0 if it is none."""
    return int(human_to_bytes(size)) if re.fullmatch("[0-9]+[MG]", str(size)) else 0


def _cron_fault(expression: str, *, needed: bool) -> str:
    """Return what is wrong with a cron expression; empty if nothing is, or if an unneeded one cannot be checked."""
    try:
        from cronsim import CronSim, CronSimError  # noqa: PLC0415  # an Ansible of the user's own may lack it
    except ImportError:
        return "to check it, Ansible's Python needs the package cronsim" if expression and needed else ""
    if not expression:
        return ""
    if len(expression.split()) != CRON_FIELDS:
        return f"it has {len(expression.split())} fields"
    try:
        CronSim(expression, datetime.now(UTC))
    except CronSimError as error:
        return str(error)
    return ""


def _is_network(text: str) -> bool:
    """Tell whether a text is an address, or a network (``192.0.2.0/24``, ``2001:db8::/32``)."""
    try:
        network = ip_network(text)
    except ValueError:
        return False
    if isinstance(network, IPv6Network):
        return True
    # Python takes 192.0.2.0/0.0.0.255 for a network, HAProxy for other addresses.
    return "/" not in text or text in (network.with_prefixlen, network.with_netmask)


def _is_moment(text: str) -> bool:
    """Tell whether a text, after the name of a stack and a slash, is `latest`, or a date and time that exists."""
    moment = text.rpartition("/")[2]
    try:
        return moment == "latest" or bool(datetime.fromisoformat(moment))
    except ValueError:
        return False


class _Plain(yaml.SafeLoader):
    """Reads an inventory without decrypting its secrets."""


_Plain.add_multi_constructor("!", lambda *_: "***")


def misplaced(sources: Iterable[str], names: Collection[str], secrets: Collection[str]) -> list[dict[str, str]]:
    """Return the settings in files of inventories that Ansible ignores, since they are not under ``vars``.

    Each has the ``file``, the ``name`` and the ``lines`` that are right, without the values of ``secrets``. ``names``
    are those of the settings. Only YAML files are read: in others, a setting cannot be at a wrong level.
    """
    found = []
    for file in _inventory_files(sources):
        try:
            content = yaml.load(file.read_text(encoding="utf-8"), _Plain)  # noqa: S506  # a SafeLoader
        except (yaml.YAMLError, OSError, UnicodeError):
            continue  # Ansible says why, or the file is of another format
        if isinstance(content, Mapping) and "plugin" not in content:
            for name, value in _ignored(content, names):
                shown = "***" if name in secrets else value
                lines = yaml.safe_dump({"all": {"vars": {name: shown}}}, allow_unicode=True)
                found.append({"file": os.path.relpath(file), "name": name, "lines": lines.rstrip()})
    return found


def _inventory_files(sources: Iterable[str]) -> Iterator[Path]:
    for source in map(Path, sources):
        if source.name == "default.yml":  # plugins/inventory/own_hosts.py
            yield source.with_name("hosts.yml")
        yield from [source] if source.is_file() else sorted(source.glob("*.y*ml"))


def _ignored(groups: Mapping[str, Any], names: Collection[str]) -> Iterator[tuple[str, Any]]:
    """Yield the settings that stand where Ansible expects groups, or beside the parts of a group."""
    for group, body in groups.items():
        if group in names and not (body is None or (isinstance(body, Mapping) and set(body) <= PARTS_OF_GROUP)):
            yield group, body
        elif isinstance(body, Mapping):
            yield from ((name, value) for name, value in body.items() if name in names)
            children = body.get("children")
            yield from _ignored(children if isinstance(children, Mapping) else {}, names)


class FilterModule:
    """The filters by name, for Ansible."""

    def filters(self) -> dict[str, Callable[..., object]]:
        """Return the filters by name."""
        return {"broken_rules": broken_rules, "misplaced": misplaced}
