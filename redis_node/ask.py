"""Questions to Redis nodes and Sentinels, by ``redis-cli``. Each is bounded in time, name lookup included."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from redis_node.settings import Address, Settings

CONNECT_SECONDS = 1.0
ANSWER_SECONDS = 2.0
USER = "operator"


class NoAnswerError(Exception):
    """The node was not reached in time, or answered with an error; the text says which."""


def ask(settings: Settings, address: Address, *command: str | int) -> Any:
    """Return the reply as ``redis-cli --json`` gives it: text, number, list or dictionary.

    Raises:
        NoAnswerError: no reply in time, or an error as the reply.

    """
    text = ask_text(settings, address, "--json", *map(str, command))
    try:
        return json.loads(text)
    except ValueError:
        raise NoAnswerError(f"{address}: not an answer: {text.strip()[:80]}") from None


def ask_text(settings: Settings, address: Address, *command: str, secret: str | None = None) -> str:
    """Return a reply that is text for people in any format, as INFO and CLUSTER NODES are; raises NoAnswerError.

    ``secret`` becomes the last argument of the command, without being one of a process, which all of the host may read.
    """
    place = ["-h", address.host, "-p", str(address.port), "-t", str(CONNECT_SECONDS)]
    try:
        done = subprocess.run(
            [
                *settings.redis_cli,
                *place,
                "--user",
                USER,
                "--no-auth-warning",
                "-e",
                *(["-x"] if secret else []),
                *command,
            ],
            input=secret,
            env=os.environ | {"REDISCLI_AUTH": settings.passwords[USER]},
            capture_output=True,
            text=True,
            timeout=ANSWER_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise NoAnswerError(f"{address}: no answer within {ANSWER_SECONDS:g} s") from None
    if done.returncode:
        raise NoAnswerError(f"{address}: {(done.stderr or done.stdout).strip() or 'no answer'}")
    return done.stdout


def ask_all[T](addresses: Iterable[Address], question: Callable[[Address], T]) -> dict[Address, T | NoAnswerError]:
    """Put one question to all at once; return each one's answer, or why there is none."""

    def answer(address: Address) -> T | NoAnswerError:
        try:
            return question(address)
        except NoAnswerError as error:
            return error

    addresses = list(addresses)
    with ThreadPoolExecutor(max(1, len(addresses))) as pool:
        return dict(zip(addresses, pool.map(answer, addresses), strict=True))


def info(settings: Settings, address: Address, section: str) -> dict[str, str]:
    """Return one section of INFO as name -> value."""
    lines = ask_text(settings, address, "INFO", section).splitlines()
    return dict(line.split(":", 1) for line in lines if ":" in line)
