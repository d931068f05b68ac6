"""What ./counter makes of the words that people type, before anything is installed."""

from __future__ import annotations

import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from support.ansible import ROOT, TIMEOUT_SECONDS, load

command_line = load("launcher/command_line.py")
VERBS = command_line.all_verbs()


def for_ansible(command: str) -> str:
    """Return the options of ansible-playbook that a command means, as a shell would need them."""
    verb, *words = shlex.split(command)
    return shlex.join(command_line.words_for_ansible(VERBS[verb], words))


@pytest.mark.parametrize(
    ("command", "meant"),
    [
        ("scale 6", "-e replicas=6"),
        ("scale -v 6 --check", "-v --check -e replicas=6"),
        ("scale --replicas 6 --stack-name x", "-e replicas=6 -e stack_name=x"),
        ("scale --replicas=6 -e lock_wait=9", "-e replicas=6 -e lock_wait=9"),
        ("rollback 12", "-e release=12"),
        ("releases 12", "-e release=12"),
        ("logs app --level error", "-e level=error -e service=app"),
        ("restore latest --safety=false --confirm counter", "-e safety=false -e confirm=counter -e backup=latest"),
        ("maintenance on --allow 192.0.2.0/24,10.0.0.1", """-e '{"allow": ["192.0.2.0/24", "10.0.0.1"]}' -e on=true"""),
        ("maintenance off", "-e on=false"),
        ("maintenance --on true --text 'Back at ten.'", """-e on=true -e '{"text": "Back at ten."}'"""),
        ("destroy --purge --confirm counter", "-e purge=true -e confirm=counter"),
        ("backup --list", "-e list=true"),
        ("bench --bench-replicas 1,4 --bench-quick", """-e '{"bench_replicas": [1, 4]}' -e bench_quick=true"""),
        ("""deploy --backup-keep '{"daily": 7}'""", """-e '{"backup_keep": {"daily": 7}}'"""),
        ("deploy --app-environment COUNTER_KEY_SECONDS=9", "-e app_environment=COUNTER_KEY_SECONDS=9"),
        ("remove 'spam-*'", "-e 'counter=spam-*'"),
        ("status -Cl localhost --forks 3 -e 'a=\"b c\"'", "-C -l localhost --forks=3 -e 'a=\"b c\"'"),
    ],
)
def test_words_and_options_become_variables(command: str, meant: str) -> None:
    assert for_ansible(command) == meant


@pytest.mark.parametrize("option", command_line.ANSIBLE, ids=lambda option: option["flags"][0])
def test_options_of_ansible_playbook_are_handed_on(option: dict[str, list[str]]) -> None:
    for flag in option["flags"]:
        words = [flag, "inventory/hosts.example.yml"] if option["value"] else [flag]
        if {"-t", "--skip-tags"} & {*option["flags"]}:
            with pytest.raises(command_line.RefusedError, match=f"{flag}: the stages of a verb have no tags"):
                command_line.words_for_ansible(VERBS["scale"], [*words, "6"])
        else:
            handed = command_line.words_for_ansible(VERBS["scale"], [*words, "6"])
            assert handed in ([*words, "-e", "replicas=6"], ["=".join(words), "-e", "replicas=6"])


ONE_WORD = "one word of visible characters, or empty to let the project generate one"


@pytest.mark.parametrize(
    ("command", "reason", "works"),
    [
        ("scale 600", "scale 600: must be 1 to 64.", "./counter scale 4"),
        ("scale --replicas -1", "scale --replicas -1: must be 1 to 64.", "./counter scale --replicas 4"),
        ("scale six", "scale six: must be 1 to 64.", "./counter scale 4"),
        ("scale 6 7", "scale does not know the word 7.", "./counter scale 6"),
        ("scale replicas=6", "replicas=6 follows no -e.", "./counter scale -e replicas=6"),
        ("scale --purge", "--purge is an option of ./counter destroy; scale would ignore it.", "./counter scale 6"),
        ("scale --relpicas 6", "scale has no option --relpicas; did you mean --replicas?", "./counter help scale"),
        ("scale --loudly", "scale has no option --loudly.", "./counter help scale"),
        ("scale --replicas", "argument --replicas: expected one argument.", "./counter scale 6"),
        ("status app", "status does not know the word app.", "./counter status"),
        ("maintenance maybe", "maintenance maybe: must be on or off.", "./counter maintenance on"),
        ("rollback 0", "rollback 0: must be the number of a release.", "./counter rollback 1"),
        ("logs --lines 0", "logs --lines 0: must be 1 to 10000.", "./counter logs --lines 100"),
        ("deploy --edge none", "deploy --edge none: must be proxy or mesh.", "./counter deploy --edge proxy"),
        ("deploy --redis-password 'a b'", f"deploy --redis-password ***: must be {ONE_WORD}.", "./counter deploy"),
        ("completion fish", "completion for 'fish': must be bash or zsh.", "source <(./counter completion bash)"),
    ],
)
def test_what_cannot_work_is_refused_in_one_line(
    capsys: pytest.CaptureFixture[str], command: str, reason: str, works: str
) -> None:
    assert command_line.main(shlex.split(command)) == 2
    assert capsys.readouterr() == ("", f"counter: {reason} This works: {works}\n")


@pytest.mark.parametrize("command", ["fly", "help fly"])
def test_a_verb_that_is_unknown_is_refused_in_one_line(capsys: pytest.CaptureFixture[str], command: str) -> None:
    assert command_line.main(shlex.split(command)) == 2
    assert capsys.readouterr() == ("", "counter: no verb 'fly'; ./counter lists the verbs\n")


@pytest.mark.parametrize("verb", VERBS)
def test_help_has_a_sentence_options_two_examples_and_the_exit_codes(verb: str) -> None:
    said = command_line.help_on(verb)
    own = [setting for setting in command_line.SETTINGS.values() if verb in setting.verbs]
    assert VERBS[verb].sentence in said
    assert [setting.option for setting in own if f"\n  {setting.option} " not in said] == []
    assert len(VERBS[verb].examples) == 2
    for example in VERBS[verb].examples:
        assert f"\n  {example}\n" in said
        # The inventory of several servers is the user's.
        for_ansible(example.removeprefix("./counter ").replace("cluster", "cluster.example"))
    assert [each["code"] for each in command_line.EXIT_CODES.values() if f"\n  {each['code']}  " not in said] == []


def test_a_value_that_works_is_allowed() -> None:
    """Refusals suggest it."""
    suggested = [setting for setting in command_line.SETTINGS.values() if setting.works]
    assert len(suggested) > 50
    assert [setting.name for setting in suggested if not setting.fits(setting.works)] == []


@pytest.mark.parametrize(
    ("words", "code"),
    [("help", 0), ("help scale", 0), ("scale --help", 0), ("logs -h", 0), ("scale 600", 2), ("fly", 2)],
)
def test_nothing_is_installed_for_help_or_for_a_command_that_cannot_work(tmp_path: Path, words: str, code: int) -> None:
    for name in ("counter", "scale.yml", "playbooks/logs.yml", "tests/run"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)
    shutil.copytree(ROOT / "launcher", tmp_path / "launcher")
    path = f"{Path(sys.executable).parent}:/usr/bin:/bin"
    done = subprocess.run(
        [tmp_path / "counter", *words.split()],
        env={"PATH": path, "HOME": str(tmp_path), "https_proxy": "http://127.0.0.1:9"},
        capture_output=True,
        text=True,
        check=False,
        timeout=TIMEOUT_SECONDS,
    )
    assert done.returncode == code, done.stderr
    assert bool(done.stdout) == (code == 0)
    assert len(done.stderr.splitlines()) == (code != 0)
    assert not (tmp_path / ".venv").exists()


@pytest.mark.parametrize(
    ("typed", "offered", "missing"),
    [
        ("./counter sc", "scale", "status"),
        ("./counter maintenance o", "on off", ""),
        ("./counter help ro", "rollback", ""),
        ("./counter test q", "quick", ""),
        ("./counter completion z", "zsh", ""),
        ("./counter scale --r", "--replicas", "--redis-tls"),
        ("./counter deploy --redis-t", "--redis-tls --redis-topology", ""),
        ("./counter deploy --redis-topology s", "standalone sentinel", "cluster"),
        ("./counter deploy --edge = m", "mesh", "proxy"),
        ("./counter deploy --edge =", "proxy mesh", ""),
        ("./counter deploy --che", "--check", "--diff"),
        ("./counter deploy -i inv", "", "--inventory"),
    ],
)
def test_bash_completes_verbs_options_and_choices(typed: str, offered: str, missing: str) -> None:
    """The last word is what the cursor is behind; bash makes words of the parts around ``=``."""
    script = 'source <(./counter completion bash); read -ra COMP_WORDS <<<"$1"; COMP_CWORD=$((${#COMP_WORDS[@]} - 1))'
    script += '; _counter; printf "%s\\n" "${COMPREPLY[@]}"; complete -p ./counter'
    done = subprocess.run(
        ["bash", "-uc", script, "bash", typed],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
        timeout=TIMEOUT_SECONDS,
    )
    # Bash prints an empty line for nothing.
    *found, registered = filter(None, done.stdout.split("\n"))
    assert registered == "complete -o default -F _counter ./counter"
    assert {*offered.split()} <= {*found}
    assert missing not in found
    assert all(each.startswith(typed.rpartition(" ")[2].strip("=")) for each in found)
