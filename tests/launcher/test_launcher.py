"""The launcher: what it lists, passes on and refuses."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from support.ansible import ROOT, TIMEOUT_SECONDS, fake, run

from plugins.filter.settings import roles_options, settings_options

# A playbook is a verb if it begins with a comment, which describes it; that behind one at the root is the same verb.
VERBS = sorted(
    {path.stem for path in [*ROOT.glob("*.yml"), *ROOT.glob("playbooks/*.yml")] if path.read_text().startswith("# ")}
)
TOOLS = ["bash", "env", "dirname", "readlink", "sed", "id", "cmp", "cp", "cat", "rm", "basename", "date", "mkdir"]
TOOLS += ["find", "sort", "tail", "grep", "touch", "sleep", "true"]
TESTS_RUN = ROOT / "tests/run"
NOBODY = 65534
# Keeps every Python of the machine from starting.
NO_PYTHON = {"PYTHONHOME": "/nonexistent"}


@pytest.fixture
def checkout() -> Iterator[Path]:
    """Return a copy of what the launcher needs, without its virtual environment, that every user can read."""
    directory = Path(tempfile.mkdtemp())
    directory.chmod(0o755)
    shutil.copy(ROOT / "counter", directory)
    shutil.copy(ROOT / "deploy.yml", directory)
    for part in ("requirements", "launcher"):
        shutil.copytree(ROOT / part, directory / part)
    (directory / "tests").symlink_to(ROOT / "tests")
    (directory / "bin").mkdir()
    provide(directory, *TOOLS)
    yield directory
    shutil.rmtree(directory)


def provide(checkout: Path, *tools: str) -> None:
    """Put programs of this machine on the PATH of ``bare``."""
    for tool in tools:
        found = shutil.which(tool)
        assert found, tool
        (checkout / "bin" / tool).symlink_to(Path(found).resolve())


def bare(
    checkout: Path, *arguments: str, user: int | None = None, environ: dict[str, str]
) -> subprocess.CompletedProcess[str]:
    """Run the launcher of a checkout with nothing on PATH but what was provided."""
    return subprocess.run(
        [str(checkout / "counter"), *arguments],
        env={"PATH": str(checkout / "bin"), "HOME": str(checkout)} | environ,
        capture_output=True,
        text=True,
        check=False,
        timeout=TIMEOUT_SECONDS,
        user=user,
    )


def test_without_a_verb_it_lists_them_one_line_each() -> None:
    done = run("./counter")
    assert done.returncode == 0
    listed = dict(line.split(None, 1) for line in done.stdout.splitlines() if line.startswith("  "))
    assert sorted(listed) == sorted([*VERBS, "test"])
    assert all(len(description) > 20 for description in listed.values())


@pytest.mark.parametrize("verb", ["fly", "../deploy", "playbooks/deploy", "Deploy"])
def test_an_unknown_verb_is_refused_in_one_line(verb: str) -> None:
    done = run("./counter", verb)
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr == f"counter: no verb '{verb}'; ./counter lists the verbs\n"


@pytest.mark.parametrize("through_link", [pytest.param(False, marks=pytest.mark.slow), True])
def test_it_works_from_another_directory_and_through_a_link(tmp_path: Path, *, through_link: bool) -> None:
    command = ROOT / "counter"
    if through_link:
        command = tmp_path / "counter"
        command.symlink_to(ROOT / "counter")
    done = run("env", f"--chdir={tmp_path}", command, "deploy", "--syntax-check", "-e", "stack_name=two words")
    assert done.returncode == 0, done.stderr
    # The command that is run can be typed as it is printed.
    last = done.stderr.splitlines()[-1]
    assert last == "+ .venv/bin/ansible-playbook deploy.yml --syntax-check -e stack_name=two\\ words"
    assert "playbook: deploy.yml" in done.stdout


def test_the_printed_command_shows_no_secrets(tmp_path: Path) -> None:
    options = settings_options(str(ROOT)) | roles_options(str(ROOT))
    names = [name for name, option in options.items() if option.get("no_log")]
    assert len(names) > 6
    (file := tmp_path / "redis_password.yml").write_text("a: b")
    plain = ["-e", f"@{file}", "--become-password-file=/tmp/file", "-e", "replicas=4"]
    given = [
        text
        for name in [*names, "ansible_become_pass"]
        for text in (f"{name}=hidden", f"replicas=4 {name}=hidden", json.dumps({name: "=hidden"}))
    ]
    done = run("./counter", "deploy", "--syntax-check", *plain, *(word for text in given for word in ("-e", text)))
    assert done.returncode == 0, done.stderr
    last = done.stderr.splitlines()[-1]
    assert " ".join(plain) in last
    assert "-e redis_password=*** -e replicas=*** -e *** " in last
    assert "hidden" not in last


def test_a_wrong_kind_of_test_is_refused() -> None:
    done = run("tests/run", "slow")
    assert (done.returncode, done.stderr) == (2, "Usage: ./counter test [quick|nightly|full|platforms|rotation]\n")


def test_the_files_and_scenarios_that_tests_name_are_there() -> None:
    """Otherwise ``quick`` would run what it should leave out."""
    lists = re.findall(r"^readonly (?:STARTING|PLATFORMS|EVERY_NIGHT)=\([^)]*\)$", TESTS_RUN.read_text(), re.MULTILINE)
    assert len(lists) == 3
    named = "${STARTING[@]} ${PLATFORMS[@]/#/molecule/} ${EVERY_NIGHT[@]/#/molecule/}"
    done = run("bash", "-euc", "\n".join([*lists, f"ls -d {named}"]))
    assert done.returncode == 0, done.stderr


def test_without_python_and_apt_it_says_what_is_needed(checkout: Path) -> None:
    done = bare(checkout, "deploy", environ=NO_PYTHON)
    assert done.returncode == 1
    assert done.stderr.startswith("counter: needs Python >= 3.12 with venv, and this system has no apt-get")
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.skipif(os.getuid() != 0, reason="only root can become somebody who may nothing")
def test_without_privilege_it_says_what_needs_root(checkout: Path) -> None:
    provide(checkout, "apt-get")
    done = bare(checkout, "deploy", user=NOBODY, environ=NO_PYTHON)
    assert done.returncode == 1
    assert re.search("^counter: needs root to run: .*apt-get -yq update", done.stderr, re.MULTILINE)
    assert not (checkout / ".venv").exists()


@pytest.mark.skipif(os.getuid() != 0, reason="needs no sudo as root")
def test_it_waits_for_another_program_that_uses_apt_and_shows_what_apt_says(checkout: Path) -> None:
    fake(checkout / "bin", "apt-get")
    done = bare(checkout, "deploy", environ=NO_PYTHON)
    assert done.returncode == 1
    assert done.stderr.endswith("E: Unable to locate package python3-venv\n")
    calls = (checkout / "calls").read_text().splitlines()
    assert [line.split()[1] for line in calls] == ["update", "update", "install"]


INTERRUPTED = "pip, which an interrupted run did not come to"
MOVED = "pip, after the checkout was moved"
COPIED = "pip, after the checkout was copied"
LINKED = "pip, with an environment in another place"


# LINKED has no pip either, and COPIED also has programs that another Python runs.
COVERED = [pytest.param(installer, marks=pytest.mark.slow) for installer in (INTERRUPTED, MOVED)]


@pytest.mark.parametrize("installer", ["uv", "pip", COPIED, LINKED, *COVERED])
def test_without_a_network_it_says_so_and_deploys_nothing(checkout: Path, installer: str) -> None:
    nowhere = "http://127.0.0.1:9"
    dead = dict.fromkeys(("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "https_proxy", "http_proxy"), nowhere) | {
        "PIP_INDEX_URL": f"{nowhere}/simple",
        "PIP_RETRIES": "0",
        "PIP_NO_CACHE_DIR": "1",
        "UV_DEFAULT_INDEX": f"{nowhere}/simple",
        "UV_NO_CACHE": "1",
        "UV_HTTP_RETRIES": "0",
    }
    if installer == "uv":
        if not shutil.which("uv"):
            pytest.skip("no uv here")
        dead["PATH"] = os.environ["PATH"]
    else:
        # The interpreter of these tests, as the system's: it has venv, and it is new enough.
        (checkout / "bin/python3").symlink_to(Path(sys.executable).resolve())
    if installer in (INTERRUPTED, MOVED, COPIED):
        subprocess.run([sys.executable, "-m", "venv", "--without-pip", checkout / ".venv"], check=True)
    if installer == LINKED:
        subprocess.run([sys.executable, "-m", "venv", "--without-pip", checkout / "elsewhere"], check=True)
        (checkout / ".venv").symlink_to("elsewhere")
        (checkout / ".venv/bin/ansible-playbook").write_text(f"#!{checkout}/.venv/bin/python\n")
    if installer == MOVED:
        (checkout / ".venv/bin/ansible-playbook").write_text("#!/gone/.venv/bin/python\n")
    if installer == COPIED:
        (checkout / ".venv/bin/ansible-playbook").write_text(f"#!{sys.executable}\n")
    done = bare(checkout, "deploy", environ=dead)
    assert done.returncode == 1
    assert ("counter: making .venv with Python" in done.stderr) == (installer not in (INTERRUPTED, LINKED))
    last = done.stderr.splitlines()[-1]
    assert last.startswith("counter: could not install requirements/control.txt: check the network")
    assert "ansible-playbook" not in done.stderr
    assert "No module named" not in done.stderr


@pytest.fixture
def project(checkout: Path) -> Path:
    """Return a checkout with a small playbook in place of each verb's, and the virtual environment of these tests."""
    (checkout / "ansible.cfg").write_text((ROOT / "ansible.cfg").read_text())
    (checkout / "plugins").symlink_to(ROOT / "plugins")
    (checkout / "VERSION").write_text("7.8.9\n")
    (checkout / "inventory").mkdir()
    (checkout / "inventory/default.yml").write_text((ROOT / "inventory/default.yml").read_text())
    (checkout / "inventory/hosts.yml").write_text("managers: {hosts: {localhost: {ansible_connection: local}}}\n")
    (checkout / ".venv").mkdir()
    for name in ("bin", "lib", "pyvenv.cfg"):
        (checkout / ".venv" / name).symlink_to(Path(sys.prefix) / name)
    shutil.copy(ROOT / "requirements/control.txt", checkout / ".venv/.installed-control")
    collections = [(ROOT / "requirements" / f"collections.{kind}").read_text() for kind in ("txt", "yml")]
    (checkout / ".venv/.installed-collections").write_text("".join(collections))
    (checkout / "playbooks").mkdir()
    for name, comment, command in [
        ("look", "# Look at the host.\n", "true"),
        ("fall", "# Fall over.\n", "false"),
        ("hidden", "", "true"),
    ]:
        (checkout / "playbooks" / f"{name}.yml").write_text(
            f"{comment}- name: Do it\n  hosts: managers\n  gather_facts: false\n  tasks:\n"
            f"    - name: Do it\n      ansible.builtin.command: '{command}'\n"
        )
    return checkout


def counter(project: Path, *arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
    return bare(project, *arguments, environ={"PATH": os.environ["PATH"], "HOME": str(project)} | environ)


def logs(directory: Path) -> list[Path]:
    return sorted(directory.glob("*.log"))


def test_a_playbook_in_playbooks_is_a_verb_if_it_says_what_it_does(project: Path) -> None:
    listed = counter(project).stdout
    assert "  look         Look at the host.\n" in listed
    assert "hidden" not in listed
    assert counter(project, "look").returncode == 0
    done = counter(project, "hidden")
    assert (done.returncode, done.stderr) == (2, "counter: no verb 'hidden'; ./counter lists the verbs\n")


def test_it_prints_the_version(project: Path) -> None:
    assert counter(project, "--version").stdout == "counter-deploy 7.8.9\n"


def test_each_run_has_a_log_that_only_its_owner_can_read_and_a_failure_names_it(project: Path) -> None:
    done = counter(project, "fall")
    assert done.returncode == 1
    (log,) = logs(project / "logs")
    assert re.fullmatch(r"20\d{6}T\d{6}Z-fall-\d+\.log", log.name)
    assert done.stdout.splitlines()[-1] == f"The whole log: {log}"
    assert "TASK [Do it] ***" in log.read_text()
    assert (log.stat().st_mode & 0o777, log.parent.stat().st_mode & 0o777) == (0o600, 0o700)


@pytest.mark.parametrize(
    ("task", "options", "code"),
    [
        ("Refuse to look", (), 3),
        ("Refuse to continue", (), 1),
        ("Report what is missing or broken", (), 4),
        # Ansible's own verdict, before a task runs.
        ("Look", ("-i", "empty"), 3),
        ("Look", ("--forks=many",), 2),
        ("Look", ("--list-tasks",), 0),
    ],
)
def test_the_exit_code_says_how_a_run_ended(project: Path, task: str, options: tuple[str, ...], code: int) -> None:
    """Codes of runs that change something: tests/roles/test_run.py."""
    (project / "empty").mkdir()
    (project / "playbooks/look.yml").write_text(
        f"# Look.\n- name: Look\n  hosts: managers\n  tasks:\n    - name: {task}\n      ansible.builtin.fail:\n"
    )
    done = counter(project, "look", *options)
    assert done.returncode == code, done.stdout + done.stderr


ENDED = 2**22 + 1
"""An id that Linux gives to no process."""


def test_the_last_twenty_logs_of_a_verb_stay_and_those_of_runs_that_go_on(project: Path) -> None:
    (project / "logs").mkdir()
    for number in range(25):
        (project / "logs" / f"20200101T0000{number:02d}Z-look-{ENDED}.log").write_text("ended")
    running = project / "logs" / f"20190101T000000Z-look-{os.getpid()}.log"
    running.touch()
    other = project / "logs" / f"20180101T000000Z-fall-{ENDED}.log"
    other.write_text("ended")
    (project / "logs" / f"20250101T000000Z-fall-{ENDED}.log").touch()
    assert counter(project, "look").returncode == 0
    verb, first, *kept = logs(project / "logs")
    assert (verb, first) == (other, running)
    assert len(kept) == 20
    assert kept[0].name == f"20200101T000006Z-look-{ENDED}.log"
    assert str(ENDED) not in kept[-1].name
    # What runs nothing takes the place of no log.
    for option in ("--syntax-check", "--list-tasks", "--version", "--help"):
        assert counter(project, "look", option).returncode == 0
    assert logs(project / "logs") == [other, running, *kept]


@pytest.mark.skipif(os.getuid() != 0, reason="only root can become somebody who may not write")
def test_where_the_project_cannot_be_written_to_the_log_goes_to_the_user_s_state(project: Path) -> None:
    home = project / "home"
    home.mkdir()
    os.chown(home, NOBODY, NOBODY)
    environ = {"PATH": os.environ["PATH"], "HOME": str(home), "ANSIBLE_LOCAL_TEMP": str(home / "tmp")}
    python = [str(ROOT / ".venv/bin/python"), "-c", ""]
    try:
        subprocess.run(python, user=NOBODY, group=NOBODY, extra_groups=[], cwd=project, check=True)
    except (PermissionError, subprocess.CalledProcessError):
        pytest.skip("somebody else cannot use the environment of these tests")
    done = bare(project, "fall", user=NOBODY, environ=environ)
    (log,) = logs(home / ".local/state/counter-deploy/logs")
    assert done.stdout.splitlines()[-1] == f"The whole log: {log}"
    assert not (project / "logs").exists()


@pytest.mark.parametrize(("mode", "other"), [(0o777, {}), (0o700, {"ANSIBLE_CONFIG": "/dev/null"})])
def test_the_project_s_configuration_is_used_where_ansible_would_use_another(
    project: Path, mode: int, other: dict[str, str]
) -> None:
    project.chmod(mode)
    counter(project, "look", **other)
    (log,) = logs(project / "logs")
    assert "changed: [localhost]" in log.read_text()


def test_what_the_user_sets_for_ansible_wins(project: Path) -> None:
    own = project / "own.log"
    done = counter(project, "look", ANSIBLE_STDOUT_CALLBACK="default", ANSIBLE_LOG_PATH=str(own))
    assert "TASK [Do it] ***" in done.stdout
    assert "TASK [Do it] ***" in own.read_text()
    assert not (project / "logs").exists()


def test_directories_of_other_tools_are_searched_after_those_of_the_project(project: Path) -> None:
    kinds = ("CALLBACK_PLUGINS", "CONNECTION_PLUGINS", "FILTER_PLUGINS", "LOOKUP_PLUGINS", "ROLES_PATH")
    done = counter(project, "look", **{f"ANSIBLE_{kind}": "/opt/another" for kind in kinds})
    assert (done.returncode, done.stdout.splitlines()[0]) == (0, "Do it            localhost    begins"), done.stderr


@pytest.mark.parametrize("where", [".ansible/collections", "own"])
def test_collections_of_the_user_s_own_are_searched_after_those_that_are_locked(project: Path, where: str) -> None:
    older = project / where / "ansible_collections/community/docker"
    (older / "plugins/modules").mkdir(parents=True)
    (older / "MANIFEST.json").write_text('{"collection_info": {"version": "2.7.0"}}')
    (project / "playbooks/look.yml").write_text(
        "# Look.\n- name: Look\n  hosts: managers\n  tasks:\n"
        "    - name: Look\n      community.docker.current_container_facts:\n"
    )
    environ = {} if where.startswith(".") else {"ANSIBLE_COLLECTIONS_PATH": str(project / where)}
    done = counter(project, "look", "--syntax-check", **environ)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("option", ["-i", "-Ci", "--inventory"])
def test_the_value_of_an_option_is_no_other_word(project: Path, option: str) -> None:
    assert counter(project, "look", option, "inventory/hosts.yml", "-v", "--diff").returncode == 0


def test_a_verb_that_only_prints_messages_prints_nothing_else(project: Path) -> None:
    (project / "playbooks/look.yml").write_text(
        "# Look.\n- name: Look\n  hosts: managers\n  gather_facts: false\n  vars:\n    messages_only: true\n"
        "  tasks:\n    - name: Show it\n      ansible.builtin.debug:\n        msg: All is well.\n"
    )
    done = counter(project, "look")
    assert (done.returncode, done.stdout, done.stderr) == (0, "All is well.\n", "")


@pytest.mark.parametrize("limit", [[], ["--limit", "localhost"]])
@pytest.mark.parametrize("given", ["-i {}", "-i{}", "--inventory {}", "--inventory={}"])
def test_an_inventory_that_does_not_exist_is_refused_in_one_line(project: Path, given: str, limit: list[str]) -> None:
    done = counter(project, "look", *given.format("~/nowhere.yml").split(), *limit)
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr == (
        f"counter: there is no inventory ~/nowhere.yml (looked for in {project});"
        " without -i, inventory/hosts.yml is used. This works: ./counter help look\n"
    )
    if not limit:
        assert counter(project, "look", *given.format("~/inventory/hosts.yml").split()).returncode == 0


@pytest.mark.parametrize(
    ("given", "said"),
    [
        *(
            (option, f"{flag}: the stages of a verb have no tags; leave it out")
            for flag in ("--tags", "-t", "--skip-tags")
            for option in (f"{flag} x", f"{flag}=x")
        ),
        *(
            (option, "-e @~/nowhere.yml: there is no such file (looked for in {})")
            for option in ("-e @~/nowhere.yml", "-e@~/nowhere.yml", "--extra-vars=@~/nowhere.yml")
        ),
        *(
            (option, "look does not know the word look.yml")
            for option in ("look.yml", "-v look.yml", "-e a=b look.yml", "--forks=2 look.yml", "-ea=b look.yml")
        ),
    ],
)
def test_an_option_that_cannot_work_is_refused_in_one_line(project: Path, given: str, said: str) -> None:
    done = counter(project, "look", *given.split())
    works = "This works: ./counter help look"
    assert (done.returncode, done.stdout, done.stderr) == (2, "", f"counter: {said.format(project)}. {works}\n")


@pytest.mark.parametrize("environ", [{"LC_ALL": "xx_XX.UTF-8", "HOME": ""}, {"LANG": "C"}])
def test_neither_a_home_nor_the_locale_of_another_machine_is_needed(project: Path, environ: dict[str, str]) -> None:
    done = counter(project, "look", **environ)
    assert (done.returncode, done.stdout.splitlines()[0]) == (0, "Do it            localhost    begins"), done.stderr


def test_without_an_inventory_of_the_user_the_only_host_is_this_machine(tmp_path: Path) -> None:
    (tmp_path / "ansible.cfg").write_text((ROOT / "ansible.cfg").read_text())
    (tmp_path / "plugins").symlink_to(ROOT / "plugins")
    (tmp_path / "inventory").mkdir()
    for name in ("default.yml", "hosts.example.yml"):
        (tmp_path / "inventory" / name).write_text((ROOT / "inventory" / name).read_text())

    def managers() -> list[str]:
        done = run("ansible-inventory", "--list", ANSIBLE_CONFIG=str(tmp_path / "ansible.cfg"))
        assert done.returncode == 0, done.stderr
        found: list[str] = json.loads(done.stdout)["managers"]["hosts"]
        return found

    assert managers() == ["localhost"]
    (tmp_path / "inventory/hosts.yml").write_text("managers: {hosts: {mine: {}}}\n")
    assert managers() == ["mine"]


LIMIT = ("--limit", "localhost")
# The verdict is Ansible's, before it looks at a limit.
BY_HAND = [
    *(("nowhere.yml", ()), ("empty", LIMIT), ("malformed.yml", ())),
    *(pytest.param(*case, marks=pytest.mark.slow) for case in (("empty", ()), ("malformed.yml", LIMIT))),
]


@pytest.mark.parametrize(("inventory", "limit"), BY_HAND)
def test_by_hand_too_an_inventory_that_cannot_be_read_is_an_error(
    tmp_path: Path, inventory: str, limit: tuple[str, ...]
) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "malformed.yml").write_text("all:\n  hosts: [a\n")
    done = run("ansible-playbook", "deploy.yml", "-i", tmp_path / inventory, *limit)
    assert done.returncode == 1
    last = done.stderr.strip().splitlines()[-1]
    assert last == f"[ERROR]: Completely failed to parse inventory source {tmp_path / inventory}"
    assert done.stdout == ""


# Each verb begins with preflight (`test_preflight_comes_first` in tests/roles).
@pytest.mark.parametrize(
    ("verb", "limit"),
    [
        ("deploy", LIMIT),
        *(pytest.param(verb, (), marks=pytest.mark.slow) for verb in ("deploy", "status", "playbooks/logs")),
    ],
)
def test_an_inventory_without_managers_is_an_error(tmp_path: Path, verb: str, limit: tuple[str, ...]) -> None:
    """Preflight says so, with which each verb begins."""
    inventory = tmp_path / "hosts.yml"
    inventory.write_text("all:\n  hosts:\n    localhost: {ansible_connection: local}\n")
    done = run("ansible-playbook", f"{verb}.yml", "-i", inventory, *limit)
    assert done.returncode == 4
    assert "The inventory has no host in the group managers" in done.stderr
    assert done.stdout == ""


@pytest.mark.parametrize("lacking", ["version", "collection"])
def test_an_ansible_that_cannot_run_the_playbooks_is_refused_in_one_line(tmp_path: Path, lacking: str) -> None:
    environ = {"ANSIBLE_COLLECTIONS_PATH": str(tmp_path), "ANSIBLE_COLLECTIONS_SCAN_SYS_PATH": "false"}
    if lacking == "version":
        # The file is read before Ansible itself is: everything of it takes the version from there.
        (tmp_path / "sitecustomize.py").write_text("import ansible.release\nansible.release.__version__ = '2.16.3'\n")
        environ = {"PYTHONPATH": str(tmp_path)}
    done = run("ansible-playbook", "deploy.yml", "--syntax-check", **environ)
    assert done.returncode == 1
    assert done.stdout == ""
    (line,) = done.stderr.splitlines()
    assert line.startswith("[ERROR]: These playbooks need ansible-core >= 2.")
    assert line.endswith("./counter brings its own: type ./counter VERB instead of ansible-playbook VERB.yml.")
    assert ("2.16.3 of" in line) == (lacking == "version")
    assert (", without ansible.posix, community.crypto, community.docker" in line) == (lacking == "collection")


def test_all_collections_that_are_used_and_no_others_are_brought_and_checked_for() -> None:
    named = yaml.safe_load((ROOT / "requirements/collections.yml").read_text())["collections"]
    used = set()
    for directory in ("roles", "playbooks", "molecule", "tests"):
        for path in (ROOT / directory).rglob("*.yml"):
            used |= set(re.findall(r"\b(community\.\w+|ansible\.(?:posix|utils|netcommon))\.\w+", path.read_text()))
    assert used == set(named)
