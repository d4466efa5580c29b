"""Cookies of sessions and launches: one for each, so that two launches in one browser never mix.

``__Host-`` keeps them to this server and to TLS, ``Partitioned`` gives each EHR's frame its own.

References
----------
RFC 6265bis section 4.1.3.2; CHIPS.
"""

from collections.abc import Mapping

from flask import Response

from cds_server.web.doors import cookie_name

_LAUNCH = "__Host-radcds-launch-"
_STATE_SHOWN = 16


def launch_cookie_name(state: str) -> str:
    """Name the cookie of one pending launch."""
    return f"{_LAUNCH}{state[:_STATE_SHOWN]}"


def keep(response: Response, name: str, secret: str, *, longest_s: int) -> None:
    """Give the browser a secret to keep: out of reach for scripts, also within an EHR's frame."""
    response.set_cookie(
        name,
        secret,
        max_age=longest_s,
        path="/",
        secure=True,
        httponly=True,
        samesite="None",
        partitioned=True,
    )


def drop(response: Response, name: str) -> None:
    """Let the browser forget a secret."""
    response.set_cookie(
        name,
        "",
        max_age=0,
        path="/",
        secure=True,
        httponly=True,
        samesite="None",
        partitioned=True,
    )


def session_secrets(cookies: Mapping[str, str]) -> Mapping[str, str]:
    """Give the secret of each session that a browser keeps, by handle."""
    prefix = cookie_name("")
    return {
        name.removeprefix(prefix): secret
        for name, secret in cookies.items()
        if name.startswith(prefix) and not name.startswith(_LAUNCH)
    }
