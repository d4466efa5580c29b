"""The doors: every route stands in one table, and nothing passes a door without its key.

A route that is not in the table, or stands there and does not exist, keeps the application from
starting. Each door has one key:

=======  ==========================================================================================
OPEN     none; nothing of a patient lies behind it
CDS      the JSON Web Token of a trusted EHR, made for this address, used once
BEARER   an access token of a trusted issuer
SESSION  the secret of the session whose handle stands in the address
PACS     the token that the PACS was given
METRICS  the token that the monitoring was given
=======  ==========================================================================================

On a machine without a trusted EHR, the token that ``radcds serve`` prints opens CDS, BEARER and
METRICS too.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from urllib.parse import urlsplit

import structlog
from flask import Flask, Request, g, request

from cds_server.errors import Forbidden
from cds_server.gate import Gate
from cds_server.hooks.answers import Caller
from cds_server.network import Network, Role
from cds_server.oauth.access_tokens import AccessTokens
from cds_server.oauth.client_token import ClientTokens, Refused
from cds_server.oauth.scopes import allows
from cds_server.permissions import Permission
from cds_server.ports import LocalToken
from cds_server.session import Session
from cds_server.sessions import Ended, Sessions
from cds_server.sessions import viewer as viewer_of_session
from cds_server.viewer import Viewer
from cds_server.web.problems import SignedOut, Unauthorised

LOCAL_USER = "local operator"
_COOKIE = "__Host-radcds-"
_LEVELS = ("system", "user")
"""A ``patient/`` scope names a patient as its issuer counts, which is nobody here."""


class Door(StrEnum):
    """What has to be shown to get in."""

    OPEN = "open"
    CDS = "cds"
    BEARER = "bearer"
    SESSION = "session"
    PACS = "pacs"
    METRICS = "metrics"


@dataclass(frozen=True, slots=True)
class Route:
    """One line of the table.

    Parameters
    ----------
    method, path
        As the application knows them.
    door
        What has to be shown.
    permission
        What the role has to have.
    audit
        Which event it leaves, by its subtype; empty where it shows nothing of a patient.
    """

    method: str
    path: str
    door: Door
    permission: Permission = Permission.NONE
    audit: str = ""


@dataclass(frozen=True, slots=True)
class Keys:
    """What opens the doors.

    Parameters
    ----------
    clients
        Checks EHRs that call CDS Hooks; ``None`` where none is trusted.
    tokens
        Checks access tokens.
    local
        The token of whoever started the server on this machine.
    sessions
        Checks signed-in people.
    pacs
        The token that the PACS shows with its events; ``None`` where it has none.
    metrics
        The token that the monitoring shows; ``None`` where it has none.
    """

    clients: ClientTokens | None
    tokens: AccessTokens
    local: LocalToken
    sessions: Sessions
    pacs: LocalToken | None = None
    metrics: LocalToken | None = None


def cookie_name(handle: str) -> str:
    """Name the cookie of one session: one for each launch, so that no two mix."""
    return f"{_COOKIE}{handle}"


def install(
    app: Flask, routes: Sequence[Route], keys: Keys, *, network: Network, gate: Gate
) -> None:
    """Put the doors before every route; ``gate`` records whom they refuse.

    Raises
    ------
    RuntimeError
        If a route of the application is not in the table, or one of the table is missing.
    """
    table = {(route.path, route.method): route for route in routes}
    built = {
        (rule.rule, method)
        for rule in app.url_map.iter_rules()
        for method in (rule.methods or set()) - {"HEAD", "OPTIONS"}
    }
    if built != set(table):
        differing = sorted(built ^ set(table))
        msg = f"the table of routes and the application differ in {differing}"
        raise RuntimeError(msg)

    @app.before_request
    def pass_door() -> None:
        if request.url_rule is None or request.method == "OPTIONS":
            return
        method = "GET" if request.method == "HEAD" else request.method
        _pass(table[request.url_rule.rule, method], keys, network, gate)


def _pass(route: Route, keys: Keys, network: Network, gate: Gate) -> None:
    """Let a request through its door, or not.

    Raises
    ------
    Unauthorised
        If a program shows no good token.
    SignedOut
        If a person shows no good session.
    Forbidden
        If the role may not do this; the refusal is recorded.
    """
    base_url = gate.site.base_url
    if route.door is Door.CDS:
        g.caller = _caller(request, keys, network, base_url)
    elif route.door is Door.PACS:
        _program(request, keys.pacs, "PACS event")
    elif route.door is Door.METRICS:
        if not _is_local(request, keys):
            _program(request, keys.metrics, "metrics")
    elif route.door is Door.BEARER:
        g.viewer = _bearer(request, keys, gate)
    elif route.door is Door.SESSION:
        # Who is signed out gets a page without patient data, in whichever EHR's frame it is.
        g.frame_ancestors = [each for ehr in network.ehrs for each in ehr.frame_ancestors]
        g.session = _session(request, keys, base_url)
        ehr = network.ehr(g.session.fhir_base_url) if g.session.fhir_base_url else None
        g.frame_ancestors = ehr.frame_ancestors if ehr else ()
        g.viewer = viewer_of_session(g.session, address_of(request))
        gate.check_role(g.viewer, route.permission, route.path)


def caller() -> Caller:
    """Give whoever called a CDS service; the door has checked."""
    found: Caller = g.caller
    return found


def viewer() -> Viewer:
    """Give whoever looks; the door has checked."""
    found: Viewer = g.viewer
    return found


def session() -> Session:
    """Give the session of the request; the door has checked."""
    found: Session = g.session
    return found


def address_of(asked: Request) -> str:
    """Give the network address that a request came from."""
    return asked.remote_addr or "unknown"


def _caller(asked: Request, keys: Keys, network: Network, base_url: str) -> Caller:
    """Let a trusted EHR in.

    Raises
    ------
    Unauthorised
        Without a reason: that is in the log.
    """
    if _is_local(asked, keys):
        return Caller(None, LOCAL_USER, address_of(asked))
    if keys.clients is None:
        raise Unauthorised
    decision = keys.clients.check(asked.headers.get("Authorization"), f"{base_url}{asked.path}")
    if isinstance(decision, Refused):
        structlog.get_logger("radcds.doors").warning("CDS call refused", reason=decision.reason)
        raise Unauthorised
    issuer = decision.client.issuer
    ehr = network.ehr_of_client(issuer)
    if ehr is None:
        raise Unauthorised
    return Caller(ehr, issuer, address_of(asked))


def _program(asked: Request, opener: LocalToken | None, what: str) -> None:
    """Let a program in that was given a token of its own.

    Raises
    ------
    Unauthorised
        If it shows no good token.
    """
    scheme, _, token = asked.headers.get("Authorization", "").partition(" ")
    if scheme.lower() != "bearer" or opener is None or not opener.opens(token):
        structlog.get_logger("radcds.doors").warning(f"{what} refused", reason="no good token")
        raise Unauthorised


def _bearer(asked: Request, keys: Keys, gate: Gate) -> Viewer:
    """Let a program with an access token in.

    Raises
    ------
    Unauthorised
        If the token is not good.
    Forbidden
        If its scopes do not reach the resource type; the refusal is recorded.
    """
    address = address_of(asked)
    if _is_local(asked, keys):
        return Viewer(LOCAL_USER, address, Role.OPERATOR)
    scheme, _, token = asked.headers.get("Authorization", "").partition(" ")
    grant = keys.tokens.check(token) if scheme.lower() == "bearer" and token else None
    if grant is None:
        raise Unauthorised
    program = Viewer(
        user=grant.subject or grant.client_id or "unknown",
        address=address,
        role=Role.SYSTEM,
        client=grant.issuer,
        centres=grant.centres,
    )
    named = asked.view_args or {}
    resource_type = str(named.get("resource_type", ""))
    letter = "r" if "resource_id" in named else "s"
    if not any(allows(grant.scopes, level, resource_type, letter) for level in _LEVELS):
        gate.refuse(
            program,
            "FHIR beyond the scopes of the token",
            "The scopes of this token do not reach this: system/ or user/ scopes are needed.",
        )
    return program


def _session(asked: Request, keys: Keys, base_url: str) -> Session:
    """Let a signed-in person in.

    Raises
    ------
    SignedOut
        If there is no session, or it has ended.
    Forbidden
        If another site made the browser send it.
    """
    handle = str((asked.view_args or {}).get("handle", ""))
    scheme, _, secret = asked.headers.get("Authorization", "").partition(" ")
    by_header = scheme.lower() == "session" and bool(secret)
    if not by_header:
        secret = asked.cookies.get(cookie_name(handle), "")
        if asked.method == "POST" and not is_same_origin(asked, base_url):
            msg = "The request came from another site."
            raise Forbidden(msg)
    found = keys.sessions.check(handle, secret, address_of(asked)) if secret else None
    if not isinstance(found, Session):
        raise SignedOut(found.says if isinstance(found, Ended) else SIGN_IN_FIRST)
    return found


SIGN_IN_FIRST = "You are not signed in, or your session has ended. Sign in again."


def is_same_origin(asked: Request, base_url: str) -> bool:
    """Say whether a form was sent by one of our own pages: browsers say where from."""
    origin = asked.headers.get("Origin", "")
    own = urlsplit(base_url)
    return origin in {f"{own.scheme}://{own.netloc}", asked.host_url.rstrip("/")}


def _is_local(asked: Request, keys: Keys) -> bool:
    scheme, _, token = asked.headers.get("Authorization", "").partition(" ")
    return scheme.lower() == "bearer" and keys.local.opens(token)
