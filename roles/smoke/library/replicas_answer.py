#!/usr/bin/python
"""Ansible module: wait until a number of replicas answer at an address, and increment a counter through them."""

from __future__ import annotations

DOCUMENTATION = r"""
module: replicas_answer
short_description: Wait until a number of app replicas answer at an address
description:
  - Increments one counter over new connections until each of the replicas has answered. Returns the number of
    acknowledged increments and the growth of the counter.
options:
  url: {type: str, required: true, description: "Address of the counter, such as http://192.0.2.11:80."}
  replicas: {type: int, required: true, description: How many different replicas must answer.}
  certificate:
    type: str
    description: The certificate that the address must serve, as PEM. Clients name a domain, so its name is not checked.
  timeout: {type: int, default: 60, description: How long to wait in seconds.}
  headers: {type: dict, default: {}, description: Headers of each request.}
  status_command: {type: str, required: true, description: "The command that shows what runs, for messages."}
"""

RETURN = r"""
replicas: {type: dict, returned: always, description: Number of acknowledged increments by name of the replica.}
acknowledged: {type: int, returned: always, description: How many increments were acknowledged.}
requested: {type: int, returned: always, description:
  "How many increments were requested. One that failed may have been counted all the same."}
counted: {type: int, returned: always, description: The growth of the counter.}
"""

import http.client
import json
import ssl
import time
import urllib.error
import urllib.request
from collections import Counter
from http import HTTPStatus
from typing import Any
from urllib.parse import urlsplit

from ansible.module_utils.basic import AnsibleModule

COUNTER = "smoke"
REQUEST_SECONDS = 10
# What a request raises that got no answer, or another one than the app's JSON.
FAILURES = (OSError, ValueError, TypeError, http.client.HTTPException)
# The certificate is compared as a whole instead (`served`).
ANY_CERTIFICATE = ssl.create_default_context()
ANY_CERTIFICATE.check_hostname = False
ANY_CERTIFICATE.verify_mode = ssl.CERT_NONE
# A proxy of the host need not reach its own address.
DIRECT = urllib.request.build_opener(
    urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=ANY_CERTIFICATE)
)


def ask(field: str, url: str, headers: dict, method: str = "GET") -> Any:
    """Return a field of the JSON answer; raises one of FAILURES. Asks once more if the edge limits requests."""
    request = urllib.request.Request(url, headers=headers, method=method)  # noqa: S310  # the operator's own address
    try:
        return answer_to(request, field)
    except urllib.error.HTTPError as refusal:
        if refusal.code != HTTPStatus.TOO_MANY_REQUESTS:
            raise
        time.sleep(min(int(refusal.headers.get("Retry-After", 1)), REQUEST_SECONDS))
        return answer_to(request, field)


def answer_to(request: urllib.request.Request, field: str) -> Any:
    """Return a field of the JSON answer; raises one of FAILURES."""
    with DIRECT.open(request, timeout=REQUEST_SECONDS) as response:
        answer = json.load(response)
    if not isinstance(answer, dict) or field not in answer:
        raise ValueError(f"the answer has no {field}: another program may answer there")
    return answer[field]


def served(url: str) -> str:
    """Return the certificate that the address serves, as PEM; raises OSError."""
    address = urlsplit(url)
    return ssl.get_server_certificate((str(address.hostname), address.port or 443), timeout=REQUEST_SECONDS)


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "url": {"type": "str", "required": True},
            "replicas": {"type": "int", "required": True},
            "certificate": {"type": "str"},
            "timeout": {"type": "int", "default": 60},
            "headers": {"type": "dict", "default": {}},
            "status_command": {"type": "str", "required": True},
        },
        supports_check_mode=False,
    )
    wanted, headers = module.params["replicas"], module.params["headers"]
    url, certificate = module.params["url"].rstrip("/"), module.params["certificate"]
    counter = f"{url}/api/counters/{COUNTER}"
    deadline = time.monotonic() + module.params["timeout"]
    answered: Counter[str] = Counter()
    before, requested, error = None, 0, ""
    while len(answered) < wanted and time.monotonic() < deadline:
        try:
            if before is None and certificate and served(url) != certificate:
                raise ValueError("it serves a certificate other than the deployed one")
            if before is None:
                before = ask("value", counter, headers)
            requested += 1
            answered[ask("replica", f"{counter}/increment", headers, "POST")] += 1
        except FAILURES as failure:
            error = str(failure) or type(failure).__name__
            time.sleep(0.5)
        else:
            # With even balancing, one request per replica would do. After more, some are not ready: ask slower.
            if sum(answered.values()) > 4 * wanted:
                time.sleep(0.1)
    result = {"changed": False, "replicas": dict(answered), "acknowledged": sum(answered.values())}
    result |= {"requested": requested, "counted": -1}
    if len(answered) < wanted:
        module.fail_json(
            msg=f"{len(answered)} of {wanted} replicas answered at {url}"
            f" within {module.params['timeout']} s"
            + (f"; last error: {error}" if error else "")
            + f". This shows what runs: {module.params['status_command']}",
            **result,
        )
    try:
        result["counted"] = ask("value", counter, headers) - before
    except FAILURES as failure:
        module.fail_json(
            msg=f"{counter} cannot be read: {failure}. This shows what runs: {module.params['status_command']}",
            **result,
        )
    module.exit_json(**result)


if __name__ == "__main__":
    main()
