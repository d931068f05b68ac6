"""Renews the certificate of an authority in time."""

from __future__ import annotations

import logging
import time
from datetime import UTC, datetime

from keeper import metrics
from keeper.answers import addresses, chain
from keeper.authority import order
from keeper.certificate import Store, first, part_left
from keeper.plan import Plan

PAUSES = [300, 600, 1200, 2400, 3600]
"""Seconds before the next attempt after a failure; the last one repeats. Let's Encrypt allows five failures an hour."""
DEPLOYED_SECONDS = 900
"""How long a deployment, which starts the keeper, may take to order the first certificate itself."""
LOG = logging.getLogger("keeper")


class Renewal:
    """The certificate of one stack."""

    def __init__(self, plan: Plan) -> None:
        """Take where its files are, and who issues it."""
        self._plan, self.store = plan, Store(plan.acme_files)
        self._failures, self._began = 0, time.monotonic()
        self.attempted = self.failure = ""

    def adopt(self) -> None:
        """Take a newer certificate from the edges: the keeper on another manager may have renewed."""
        for edge in addresses(self._plan.edge_at):
            served = chain(edge, self._plan.edge_domains[0])
            if served and self.store.adopt(served):
                LOG.info("adopted the certificate of an edge, which ends on %s", self.ends())

    def renew(self) -> float:
        """Renew if it is due; return the seconds until the next look."""
        plan = self._plan
        try:
            self.adopt()
            if self.is_due():
                self.attempted = f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}"
                metrics.ATTEMPTED.set_to_current_time()
                keys = self.store.read("account.pem"), self.store.read("key.pem")
                self.store.write("certificate.pem", order(plan, *keys))
                self.store.write("directory", f"{plan.acme_directory}\n")
                LOG.info("renewed the certificate; it ends on %s", self.ends())
            metrics.ENDS.set(first(self.store.chain()).not_valid_after_utc.timestamp())
        # Whatever it is, the next attempt may succeed. A new task would order at once, past the authority's limits.
        except Exception as error:  # noqa: BLE001
            pause = PAUSES[min(self._failures, len(PAUSES) - 1)]
            self._failures += 1
            self.failure = f"{type(error).__name__}: {error}"
            LOG.warning("no renewal, next attempt in %d s: %s", pause, self.failure)
        else:
            self._failures, pause = 0, 60
            self.failure = ""
        metrics.RENEWED.set(not self.failure)
        return pause * plan.hurry

    def is_due(self) -> bool:
        """Tell whether it ends soon, or is the placeholder of a deployment that did not get one."""
        present = first(self.store.chain())
        deployed = self._began + DEPLOYED_SECONDS * self._plan.hurry
        left_over = present.issuer == present.subject and time.monotonic() > deployed
        return left_over or part_left(present) < self._plan.renewed_below

    def ends(self) -> str:
        """Return the end of the certificate."""
        return f"{first(self.store.chain()).not_valid_after_utc:%Y-%m-%dT%H:%M:%SZ}"
