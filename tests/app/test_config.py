"""The environment becomes one typed object; what breaks a rule is refused with an example that works."""

from pathlib import Path

import pytest

from counter.config import Address, Config, ConfigError, Topology, WriteConcern


def test_an_empty_environment_is_a_local_standalone_redis() -> None:
    config = Config.from_env({})
    assert config.topology is Topology.STANDALONE
    assert config.redis_nodes == (Address("127.0.0.1", 6379),)
    assert config.password is None
    assert config.required_acks == 0


def test_every_variable_is_read(tmp_path: Path) -> None:
    secret = tmp_path / "password"
    secret.write_text("s3cret\n")
    config = Config.from_env(
        {
            "COUNTER_TOPOLOGY": "sentinel",
            "COUNTER_REDIS_NODES": "redis-1:6379, redis-2",
            "COUNTER_SENTINEL_NODES": "sentinel-1:26379,sentinel-2",
            "COUNTER_REDIS_PASSWORD_FILE": str(secret),
            "COUNTER_WRITE_CONCERN": "all",
            "COUNTER_REPLICAS_PER_PRIMARY": "4",
            "COUNTER_DEADLINE_SECONDS": "2.5",
            "COUNTER_HISTORY_LOG": "true",
        }
    )
    assert config.redis_nodes == (Address("redis-1", 6379), Address("redis-2", 6379))
    assert config.sentinel_nodes[1] == Address("sentinel-2", 26379)
    assert config.password == "s3cret"  # noqa: S105
    assert config.write_concern is WriteConcern.ALL
    assert config.required_acks == 4
    assert config.deadline == 2.5
    assert config.history_log


@pytest.mark.parametrize(("replicas", "acks"), [(0, 0), (1, 1), (2, 1), (3, 2), (4, 2)])
def test_majority_counts_the_primary(replicas: int, acks: int) -> None:
    assert Config(write_concern=WriteConcern.MAJORITY, replicas_per_primary=replicas).required_acks == acks


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("TOPOLOGY", "ring"),
        ("WRITE_CONCERN", "two"),
        ("EDGE", "cdn"),
        ("THREADS", "0"),
        ("THREADS", "many"),
        ("DEADLINE_SECONDS", "nan"),
        ("DEADLINE_SECONDS", "soon"),
        ("DRAIN_SECONDS", "-1"),
        ("HISTORY_LOG", "perhaps"),
        ("KEY_SECONDS", "9"),
        ("REDIS_NODES", "redis:port"),
        ("REDIS_PASSWORD_FILE", "/does/not/exist"),
    ],
)
def test_a_wrong_value_is_named_with_rule_and_example(name: str, value: str) -> None:
    with pytest.raises(ConfigError) as refusal:
        Config.from_env({f"COUNTER_{name}": value})
    text = str(refusal.value)
    assert f"COUNTER_{name}={value!r}" in text
    assert "for example COUNTER_" in text


def test_a_window_that_leaves_no_time_for_a_repeat_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"COUNTER_KEY_SECONDS='119'.*for example COUNTER_KEY_SECONDS=120"):
        Config.from_env({"COUNTER_KEY_SECONDS": "119", "COUNTER_DEADLINE_SECONDS": "60"})


@pytest.mark.parametrize("topology", ["sentinel", "external"])
def test_a_topology_without_its_address_is_refused(topology: str) -> None:
    with pytest.raises(ConfigError, match="for example COUNTER_"):
        Config.from_env({"COUNTER_TOPOLOGY": topology})


def test_secrets_are_not_shown() -> None:
    assert "s3cret" not in repr(Config(password="s3cret", redis_url="redis://:s3cret@host"))  # noqa: S106
    with pytest.raises(ConfigError, match=r"^(?!.*s3cret).*'https://\*\*\*@host'"):
        Config.from_env({"COUNTER_TOPOLOGY": "external", "COUNTER_REDIS_URL": "https://:s3cret@host"})
