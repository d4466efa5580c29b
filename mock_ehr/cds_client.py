"""The CDS Hooks client: it asks the app's services, and judges every answer.

References
----------
CDS Hooks 2.0.1: Calling a CDS Service, Prefetch, Passing the Access Token, Trusting CDS Clients,
Feedback.
"""

import re
import secrets
import uuid
from collections.abc import Mapping, Sequence
from typing import Any

import httpx
import orjson
from joserfc import jwt

from mock_ehr.cds_rules import discovery_violations, response_violations
from mock_ehr.fhir_query import RECORD_TYPES
from mock_ehr.fhir_store import FhirProblem
from mock_ehr.ledger import ACCESS_LIFE, Grant, LaunchContext
from mock_ehr.office import Office

_TOKEN_LIFE = 300
_JSON = "application/json"
_TOKEN = re.compile(r"\{\{(.*?)\}\}")
_USER_TOKENS = {
    "Patient/": "userPatientId",
    "Practitioner/": "userPractitionerId",
    "PractitionerRole/": "userPractitionerRoleId",
    "RelatedPerson/": "userRelatedPersonId",
}


class CdsClient:
    """Calls the services of the registered app.

    Parameters
    ----------
    office
        The EHR.
    """

    def __init__(self, office: Office) -> None:
        self._office = office
        self.feedback: list[dict[str, Any]] = []

    @property
    def discovery_url(self) -> str:
        """Where the services are listed."""
        return f"{self._office.registration.cds_base_url}/cds-services"

    def token(self, audience: str, **claims: object) -> str:
        """Sign a client token for one call; ``claims`` replace its own, and ``None`` removes."""
        key, now = self._office.keys.cds, int(self._office.ledger.clock())
        own: dict[str, object] = {
            "iss": self._office.addresses.base,
            "aud": audience,
            "exp": now + _TOKEN_LIFE,
            "iat": now,
            "jti": str(uuid.uuid4()),
            **claims,
        }
        header = {
            "alg": "ES384",
            "kid": key.kid,
            "typ": "JWT",
            "jku": self._office.addresses.cds_jwks,
        }
        kept = {name: value for name, value in own.items() if value is not None}
        return jwt.encode(header, kept, key, algorithms=["ES384"])

    def discover(self) -> httpx.Response:
        """Ask which services there are, and judge the answer."""
        answer = self._office.http.get(
            self.discovery_url, headers=self._headers(self.discovery_url)
        )
        if answer.is_success:
            self._judge(answer, discovery_violations(_json(answer)))
        return answer

    def call(
        self, service: Mapping[str, Any], context: Mapping[str, Any], *, prefetch: bool
    ) -> httpx.Response:
        """Call one discovered service, and judge the answer."""
        url = f"{self.discovery_url}/{service['id']}"
        access_token, grant = self._access(context)
        body: dict[str, Any] = {
            "hook": service["hook"],
            "hookInstance": str(uuid.uuid4()),
            "context": dict(context),
            "fhirServer": self._office.addresses.fhir,
            "fhirAuthorization": {
                "access_token": access_token,
                "token_type": "Bearer",
                "expires_in": ACCESS_LIFE,
                "scope": " ".join(grant.scopes),
                "subject": grant.client_id,
                **({"patient": grant.context.patient} if grant.context.patient else {}),
            },
        }
        fetched = self._prefetched(service, context, grant) if prefetch else {}
        if fetched:
            body["prefetch"] = fetched
        answer = self._post(url, body)
        if answer.is_success:
            self._judge(answer, response_violations(_json(answer)))
        return answer

    def send_feedback(self, service_id: str, feedback: Sequence[dict[str, Any]]) -> httpx.Response:
        """Tell a service what became of its cards."""
        body = {"feedback": list(feedback)}
        self.feedback.append(body)
        return self._post(f"{self.discovery_url}/{service_id}/feedback", body)

    def _post(self, url: str, body: object) -> httpx.Response:
        headers = {**self._headers(url), "Content-Type": _JSON}
        return self._office.http.post(url, content=orjson.dumps(body), headers=headers)

    def _headers(self, url: str) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.token(url)}", "Accept": _JSON}

    def _access(self, context: Mapping[str, Any]) -> tuple[str, Grant]:
        """Mint the access token of a call: it reads one patient's record and nothing else."""
        grant = Grant(
            self._office.registration.client_id,
            tuple(f"patient/{each}.rs" for each in RECORD_TYPES if each != "Practitioner"),
            LaunchContext(user=context.get("userId"), patient=context.get("patientId")),
            secrets.token_hex(8),
        )
        return self._office.ledger.new_access(grant), grant

    def _prefetched(
        self, service: Mapping[str, Any], context: Mapping[str, Any], grant: Grant
    ) -> dict[str, Any]:
        """Resolve the templates; one whose token cannot be filled is left out, as not known."""
        fetched: dict[str, Any] = {}
        templates = service.get("prefetch")
        for key, template in (templates if isinstance(templates, dict) else {}).items():
            query = filled(str(template), context)
            if query is None:
                continue
            try:
                fetched[key] = self._office.store.resolve(query, grant)
            except FhirProblem as problem:
                if problem.broken:
                    self._office.ledger.note(f"Prefetch template {key}: {problem.says}")
                else:
                    fetched[key] = None
        return fetched

    def _judge(self, answer: httpx.Response, broken: Sequence[str]) -> None:
        if answer.headers.get("Content-Type", "").partition(";")[0] != _JSON:
            self._office.ledger.note("CDS Hooks 2.0.1: an answer is application/json.")
        for rule in broken:
            self._office.ledger.note(rule)


def services(answer: httpx.Response) -> list[dict[str, Any]]:
    """Give the services that a discovery lists; none where it failed or is no discovery."""
    body = _json(answer) if answer.is_success else None
    found = body.get("services") if isinstance(body, dict) else None
    return [each for each in found if isinstance(each, dict)] if isinstance(found, list) else []


def filled(template: str, context: Mapping[str, Any]) -> str | None:
    """Fill the tokens of a prefetch template; ``None`` where one has no value."""
    user = str(context.get("userId", ""))
    values = {
        name: user.removeprefix(kind)
        for kind, name in _USER_TOKENS.items()
        if user.startswith(kind)
    }
    for name, value in context.items():
        if isinstance(value, str | int | float):
            values[f"context.{name}"] = str(value)
    if any(token not in values for token in _TOKEN.findall(template)):
        return None
    return _TOKEN.sub(lambda found: values[found[1]], template)


def _json(answer: httpx.Response) -> object:
    try:
        return answer.json()
    except ValueError:
        return "no JSON"
