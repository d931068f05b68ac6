"""What the program of a node raises. Each text is a sentence for people."""

from __future__ import annotations


class NodeError(Exception):
    """A node was not asked, or not changed, as it had to be."""


class NoAnswerError(NodeError):
    """A server did not answer in time. What was asked of it may have been done."""


class StateError(NodeError):
    """The nodes are not in the state that the next step needs, or did not reach it in time."""


class ShapeError(NodeError):
    """A cluster cannot get the shape that was asked for. The text says what helps; to try again does not."""


class RefusedError(NodeError):
    """A server answered with an error."""


class UnknownNodeError(RefusedError):
    """The cluster node that was asked does not know the id."""


class SlotMovesError(RefusedError):
    """The cluster node that was asked lacks the key, since its slot is on its way to or from it."""


_BY_REPLY = {"ERR Unknown node": UnknownNodeError, "ASK ": SlotMovesError, "TRYAGAIN ": SlotMovesError}


def refusal(server: object, reply: str) -> RefusedError:
    """Return the error for an error reply of Redis, by how it begins."""
    kind = next((kind for start, kind in _BY_REPLY.items() if reply.startswith(start)), RefusedError)
    return kind(f"{server}: {reply}")
