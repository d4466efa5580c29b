"""Ways in and out: SMART launch from an EHR, standalone launch, and the local token.

A launch keeps one secret in the browser: in a cookie of its own or, where an EHR's frame keeps no
cookies, in the window's session storage.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from urllib.parse import urlencode

import orjson
from flask import Blueprint, Response, g, redirect, request
from werkzeug.exceptions import NotFound

from cds_server.access import Access
from cds_server.errors import Forbidden, PeerUnavailable
from cds_server.network import Ehr, Network, Role
from cds_server.oauth.signing_keys import SigningKeys
from cds_server.oauth.smart_client import LaunchRefused
from cds_server.ports import LocalToken
from cds_server.session import LAUNCH_LASTS, Session
from cds_server.sessions import Person, Sessions, viewer
from cds_server.web.doors import LOCAL_USER, address_of, cookie_name, is_same_origin, session
from smart_app import cookies
from smart_app.launching import Arrived, Begun, Launching
from smart_app.rendering import page, static_file

_KEYS_KEPT_S = 3600
_ANOTHER_SITE = "The request came from another site."
_WITH_PATIENT = {"patient": "choose"}
_ANSWER = ("state", "code", "iss", "error")


@dataclass(frozen=True, slots=True)
class WaysIn:
    """What begins and ends a session.

    Parameters
    ----------
    launching
        Begins and completes launches.
    sessions
        Begins and ends sessions.
    access
        Says which session may open a study.
    network
        Which EHRs there are.
    local
        The token of whoever started the server.
    keys
        Published, so that authorisation servers can check who this is.
    session_longest_s
        How long a browser keeps the secret of a session.
    """

    launching: Launching
    sessions: Sessions
    access: Access
    network: Network
    local: LocalToken
    keys: SigningKeys
    session_longest_s: int

    # ── Where to go ──────────────────────────────────────────────────────────────────────────────

    def start(self) -> Response:
        """Send a browser to its session, or to sign in."""
        found = self._sessions_of_browser()
        return _to(home(found[0])) if found else _to("/sign-in")

    def study(self, result_id: object) -> Response:
        """Send a browser to a study in the session that may open it."""
        found = self._sessions_of_browser()
        if not found:
            return _to(f"/sign-in?{urlencode({'study': str(result_id)})}")
        address = address_of(request)
        fitting = [
            each for each in found if self.access.is_open_to(str(result_id), viewer(each, address))
        ]
        return _to(f"/app/{(fitting or found)[0].handle}/studies/{result_id}")

    def choose(self) -> Response:
        """Offer the ways to sign in."""
        return self._choice("")

    # ── SMART launch ─────────────────────────────────────────────────────────────────────────────

    def launch(self) -> Response:
        """Begin a launch that an EHR asks for."""
        iss = request.args.get("iss", "")
        _allow_frames(self.network.ehr(iss))
        begun = self.launching.begin(iss, launch=request.args.get("launch") or None)
        if request.headers.get("Sec-Fetch-Dest") == "document":
            return _binding(_to(begun.address), begun)
        values = {"address": begun.address, "state": begun.state, "binder": begun.binder}
        return _binding(page("launching.html", values), begun)

    def standalone(self, number: int) -> Response:
        """Begin a launch that the person asks for here.

        Raises
        ------
        NotFound
            If there is no such EHR.
        """
        if number >= len(self.network.ehrs):
            description = "There is no such EHR."
            raise NotFound(description)
        begun = self.launching.begin(
            self.network.ehrs[number].fhir_base_url,
            launch=None,
            result_id=_study_asked(),
            with_patient="patient" in request.args,
        )
        return _binding(_to(begun.address), begun)

    def returned(self) -> Response:
        """Complete a launch where the browser kept the cookie; else let the script do it."""
        # Whose launch it is stands in what the state names; until then no page holds anything.
        g.frame_ancestors = [a for ehr in self.network.ehrs for a in ehr.frame_ancestors]
        answer = {name: request.args[name] for name in _ANSWER if name in request.args}
        name = cookies.launch_cookie_name(answer.get("state", ""))
        binder = request.cookies.get(name)
        if binder is None:
            return page("returning.html", {})
        arrived = self.launching.complete(answer, binder=binder, address=address_of(request))
        response = _to(_location(arrived))
        cookies.drop(response, name)
        return self._keeping(response, arrived.session, arrived.secret)

    def returned_without_cookie(self) -> Response:
        """Complete a launch for a frame that keeps no cookies: the secret goes to its script."""
        if not is_same_origin(request, self.access.site.base_url):
            return _told({"says": _ANOTHER_SITE}, HTTPStatus.FORBIDDEN)
        answer = {name: request.form[name] for name in _ANSWER if name in request.form}
        binder = request.form.get("binder", "")
        try:
            arrived = self.launching.complete(answer, binder=binder, address=address_of(request))
        except LaunchRefused as error:
            return _told({"says": str(error)}, HTTPStatus.FORBIDDEN)
        except PeerUnavailable as error:
            says = f"Another server is needed and cannot be used: {error}"
            return _told({"says": says}, HTTPStatus.BAD_GATEWAY)
        told = {"handle": arrived.session.handle, "secret": arrived.secret}
        return _told({**told, "location": _location(arrived)}, HTTPStatus.OK)

    # ── On this machine ──────────────────────────────────────────────────────────────────────────

    def with_token(self) -> Response:
        """Sign in with the token that ``radcds serve`` printed.

        Raises
        ------
        Forbidden
            If another site sent the form.
        """
        if not is_same_origin(request, self.access.site.base_url):
            raise Forbidden(_ANOTHER_SITE)
        if not self.local.opens(request.form.get("token", "").strip()):
            message = "This token opens nothing here. Copy the one that radcds serve printed."
            return self._choice(message, HTTPStatus.FORBIDDEN)
        person = Person(LOCAL_USER, LOCAL_USER, Role.OPERATOR)
        address = address_of(request)
        begun, secret = self.sessions.begin(person, address=address, ehr=None, tokens=None)
        wanted = _study_asked()
        location = f"/app/{begun.handle}/studies/{wanted}" if wanted else home(begun)
        return self._keeping(_to(location), begun, secret)

    def sign_out(self, handle: str) -> Response:
        """End a session."""
        self.sessions.end(session(), address_of(request))
        response = page(
            "signin.html",
            {"ehrs": [], "local": False, "message": "You are signed out.", "study": ""},
        )
        cookies.drop(response, cookie_name(handle))
        return response

    # ── What is public ───────────────────────────────────────────────────────────────────────────

    def published_keys(self) -> Response:
        """Give the public keys of this server."""
        response = Response(orjson.dumps(self.keys.public_jwks()), content_type="application/json")
        response.headers["Cache-Control"] = f"public, max-age={_KEYS_KEPT_S}"
        return response

    def static(self, name: str) -> Response:
        """Give a file that ships with the pages.

        Raises
        ------
        NotFound
            If there is none of this name.
        """
        found = static_file(name)
        if found is None:
            description = "There is no such file."
            raise NotFound(description)
        return found

    def _sessions_of_browser(self) -> list[Session]:
        """Give the sessions whose secrets the browser keeps, the latest first."""
        address = address_of(request)
        kept = cookies.session_secrets(request.cookies)
        checked = [self.sessions.check(handle, secret, address) for handle, secret in kept.items()]
        found = [each for each in checked if isinstance(each, Session)]
        return sorted(found, key=lambda each: each.started_at, reverse=True)

    def _choice(self, message: str, status: int = HTTPStatus.OK) -> Response:
        """Offer each EHR with and without a patient, and the token where there is one."""
        study = _study_asked()
        asked = {"study": study} if study else {}
        ehrs = []
        for number, ehr in enumerate(self.network.ehrs):
            if ehr.smart is None:
                continue
            for name, more in ((ehr.name, {}), (f"{ehr.name}, choosing a patient", _WITH_PATIENT)):
                query = urlencode({**asked, **more})
                url = f"/sign-in/{number}"
                ehrs.append({"name": name, "url": f"{url}?{query}" if query else url})
        values: dict[str, object] = {
            "ehrs": ehrs,
            "local": self.local.available,
            "message": message,
        }
        values["study"] = study
        return page("signin.html", values, status)

    def _keeping(self, response: Response, begun: Session, secret: str) -> Response:
        name = cookie_name(begun.handle)
        cookies.keep(response, name, secret, longest_s=self.session_longest_s)
        return response


def sign_in(ways: WaysIn) -> Blueprint:
    """Give the routes."""
    blueprint = Blueprint("sign_in", __name__)
    routes: Mapping[tuple[str, str], Callable[..., Response]] = {
        ("GET", "/"): ways.start,
        ("GET", "/studies/<uuid:result_id>"): ways.study,
        ("GET", "/launch"): ways.launch,
        ("GET", "/sign-in/<int:number>"): ways.standalone,
        ("GET", "/callback"): ways.returned,
        ("POST", "/callback"): ways.returned_without_cookie,
        ("GET", "/sign-in"): ways.choose,
        ("POST", "/sign-in"): ways.with_token,
        ("POST", "/app/<handle>/sign-out"): ways.sign_out,
        ("GET", "/.well-known/jwks.json"): ways.published_keys,
        ("GET", "/static/<name>"): ways.static,
    }
    for number, ((method, path), view) in enumerate(routes.items()):
        blueprint.add_url_rule(path, f"way_{number}", view, methods=[method])
    return blueprint


def home(session: Session) -> str:
    """Give the first page of a session: the worklist, or the studies of its patient."""
    return f"/app/{session.handle}/worklist"


def _location(arrived: Arrived) -> str:
    if arrived.result_id:
        return f"/app/{arrived.session.handle}/studies/{arrived.result_id}"
    return home(arrived.session)


def _study_asked() -> str:
    """Give the study that a person wanted before signing in."""
    asked = request.values.get("study", "")
    return asked if len(asked) == 36 and asked.replace("-", "").isalnum() else ""  # noqa: PLR2004 - a UUID


def _allow_frames(ehr: Ehr | None) -> None:
    """Let the EHR that launches, and it alone, show the answer in a frame."""
    g.frame_ancestors = ehr.frame_ancestors if ehr else ()


def _binding(response: Response, begun: Begun) -> Response:
    """Tie a launch to the browser."""
    name, longest_s = cookies.launch_cookie_name(begun.state), int(LAUNCH_LASTS.total_seconds())
    cookies.keep(response, name, begun.binder, longest_s=longest_s)
    return response


def _to(address: str) -> Response:
    response: Response = redirect(address, HTTPStatus.SEE_OTHER)  # type: ignore[assignment]
    return response


def _told(value: dict[str, str], status: int) -> Response:
    return Response(orjson.dumps(value), status, content_type="application/json")
