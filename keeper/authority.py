"""Orders certificates. The edges answer the challenges (HTTP-01) from the account's key alone."""

from __future__ import annotations

from datetime import datetime, timedelta

from acme import challenges, client, crypto_util, errors, messages
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from josepy.jwa import ES256
from josepy.jwk import JWKEC

from keeper.plan import Plan

LIMIT = timedelta(minutes=3)
"""How long the authority may take to validate the domains and to issue."""
REQUEST_SECONDS = 20


def order(plan: Plan, account: str, key: str) -> str:
    """Return a new certificate with its chain. Keys are PEM; raises acme.errors.Error, OSError, ValueError."""
    private = load_pem_private_key(account.encode(), password=None)
    if not isinstance(private, ec.EllipticCurvePrivateKey):
        raise TypeError("the key of the account is not an ECDSA key")
    known = JWKEC(key=private)
    network = client.ClientNetwork(known, alg=ES256, user_agent="counter-deploy", timeout=REQUEST_SECONDS)
    if plan.acme_root:
        # Only for the authority: receivers of messages have certificates of others. Requests takes a file, too.
        network.verify_ssl = str(plan.acme_files / "root.pem")  # type: ignore[assignment]
    acme = client.ClientV2(client.ClientV2.get_directory(plan.acme_directory, network), network)
    _register(acme, plan.acme_email)
    ordered = acme.new_order(crypto_util.make_csr(key.encode(), list(plan.edge_domains)))
    for authorization in ordered.authorizations:
        if authorization.body.status != messages.STATUS_VALID:
            offered = (one for one in authorization.body.challenges if isinstance(one.chall, challenges.HTTP01))
            challenge = next(offered, None)
            if challenge is None:
                raise errors.ClientError(f"the authority offers no HTTP-01 for {authorization.body.identifier.value}")
            acme.answer_challenge(challenge, challenge.response(known))
    # The library compares with local time without a zone.
    return acme.poll_and_finalize(ordered, datetime.now() + LIMIT).fullchain_pem  # noqa: DTZ005


def _register(acme: client.ClientV2, email: str) -> None:
    """Make the account, or find it: a deployment has made it, unless the authority has forgotten it."""
    wanted = messages.NewRegistration.from_data(email=email or None, terms_of_service_agreed=True)
    try:
        acme.new_account(wanted)
    except errors.ConflictError as known:
        account = messages.RegistrationResource(uri=known.location, body=messages.Registration())
        acme.net.account = acme.query_registration(account)
