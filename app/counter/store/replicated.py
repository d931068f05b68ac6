"""The promise and the warnings of topologies whose primaries have replicas."""

from __future__ import annotations

from counter.config import Address, Config, WriteConcern
from counter.store.keys import PROBE_KEY


class Replicated:
    """Base of the routes to such topologies."""

    recognises_ids = True

    def __init__(self, config: Config) -> None:
        """Take what the write concern asks for."""
        self._config = config

    @property
    def promise(self) -> str:
        """See ``Store.promise``: what an acknowledged increment survives."""
        acks, replicas = self._config.required_acks, self._config.replicas_per_primary
        if acks == 0:
            return "An acknowledged increment is on the disk of the primary only: a failover may lose it."
        survives = "the loss of any one node" if acks < replicas else "the loss of all nodes but one"
        if replicas == 1:
            survives = "the loss of either node"
        copies = f"{acks} of {replicas} replicas" if acks < replicas else f"all {replicas} replicas"
        return f"An acknowledged increment is on the disk of the primary and of {copies}: it survives {survives}."

    @property
    def warning(self) -> str | None:
        """See ``Store.warning``: a write concern that a failover does not respect."""
        if self._config.write_concern is WriteConcern.NONE:
            return "Write concern none: acknowledged increments may be lost when the primary fails."
        return None

    def _alone(self, replicas: set[Address]) -> str:
        """Return why a round that no replica must confirm is not to be trusted, if it is not.

        A primary without replicas is cut off from them. It refuses writes, unless the log of the backups follows it,
        which Redis counts as a replica.
        """
        alone = not (replicas or self._config.required_acks) and self._config.replicas_per_primary > 0
        return "the primary has no replica" if alone else ""

    def samples(self) -> list[str]:
        """See ``Route.samples``: one key, since there is one primary."""
        return [PROBE_KEY]
