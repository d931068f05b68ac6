"""Whether the services of a swarm are complete again after an engine has restarted."""

from __future__ import annotations

from support.ansible import load

services = load("roles/docker_host/filter_plugins/services.py")
BEFORE = "a_app 3/3\na_edge 3/3\nb_app 1/2\nc_job 1/1 (1/1 completed)\nd_app 2/2 (max 1 per node)\n"


def test_services_that_were_complete_have_to_be_so_again() -> None:
    before = services.complete_services(BEFORE)
    assert before == {"a_app": 3, "a_edge": 3, "c_job": 1, "d_app": 2}
    assert services.incomplete_services(BEFORE, before) == []
    # Nobody waits for what was not complete, and more tasks than before are enough.
    assert (
        services.incomplete_services(BEFORE.replace("b_app 1/2", "b_app 0/2").replace("a_app 3/3", "a_app 4/4"), before)
        == []
    )
    # A global service wants no task on a node that refuses it.
    assert services.incomplete_services(BEFORE.replace("a_edge 3/3", "a_edge 2/2"), before) == ["a_edge"]
    assert services.incomplete_services(BEFORE.replace("a_app 3/3", "a_app 2/3"), before) == ["a_app"]
    assert services.incomplete_services("", before) == list(before)
