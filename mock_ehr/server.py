"""The mock EHR, put together."""

import time
from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import Any, Self

import httpx
from flask import Flask, Response, render_template, request
from jinja2 import StrictUndefined
from werkzeug.exceptions import HTTPException

from mock_ehr.addresses import Addresses
from mock_ehr.authorization_endpoint import authorization_endpoint
from mock_ehr.cds_client import CdsClient, services
from mock_ehr.chart_pages import chart_pages
from mock_ehr.fhir_api import fhir_api, not_offered
from mock_ehr.fhir_store import FhirStore
from mock_ehr.frame_pages import frame_pages
from mock_ehr.ledger import LaunchContext, Ledger
from mock_ehr.office import Office
from mock_ehr.page_parts import USER
from mock_ehr.records import Record, Resource
from mock_ehr.registration import AppRegistration
from mock_ehr.responses import page_response
from mock_ehr.signing_keys import SigningKeys
from mock_ehr.smart_configuration import smart_configuration
from mock_ehr.token_endpoint import token_endpoint

_TIMEOUT = 10.0


class MockEhr:
    """A strict EHR with one registered app.

    Parameters
    ----------
    base_url
        Where it is served, without a trailing slash.
    app
        The registered app.
    records
        FHIR R4 resources.
    http
        How it calls the app; a client of its own where none is given, closed by ``close``.
    clock
        Gives the time in seconds since 1970.
    """

    def __init__(
        self,
        base_url: str,
        app: AppRegistration,
        records: Sequence[Resource],
        *,
        http: httpx.Client | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        addresses, ledger = Addresses(base_url.rstrip("/")), Ledger(clock)
        store = FhirStore(Record(list(records)), addresses.fhir, ledger)
        self._own_http = http is None
        way_out = http or httpx.Client(timeout=_TIMEOUT, trust_env=False)
        self._office = Office(addresses, app, ledger, SigningKeys(), store, way_out)
        self._client = CdsClient(self._office)
        self.app = _application(self._office, self._client)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections that it opened itself."""
        if self._own_http:
            self._office.http.close()

    @property
    def cds_issuer(self) -> str:
        """``iss`` of the tokens of the CDS client."""
        return self._office.addresses.base

    @property
    def fhir_base_url(self) -> str:
        """The FHIR endpoint: ``iss`` of a launch, ``fhirServer`` of a hook."""
        return self._office.addresses.fhir

    @property
    def violations(self) -> list[str]:
        """Every rule that the app broke, in order, each in one sentence."""
        return self._office.ledger.violations

    @property
    def faults(self) -> set[str]:
        """The faults that are switched on, of ``mock_ehr.ledger.FAULTS``."""
        return self._office.ledger.faults

    @property
    def feedback(self) -> list[dict[str, Any]]:
        """The feedback bodies that were sent."""
        return self._client.feedback

    @property
    def store(self) -> FhirStore:
        """The records; ``store.largest_page`` makes the pages of searches small."""
        return self._office.store

    def launch_url(self, launch: str) -> str:
        """Give the address that the EHR opens to start a launch."""
        query = httpx.QueryParams({"iss": self.fhir_base_url, "launch": launch})
        return f"{self._office.registration.launch_url}?{query}"

    def new_launch(
        self,
        *,
        patient: str,
        user: str = USER,
        encounter: str | None = None,
        fhir_context: Sequence[Mapping[str, object]] = (),
        app_context: str | None = None,
        need_patient_banner: bool = True,
    ) -> str:
        """Start an EHR launch and give its opaque value.

        Parameters
        ----------
        patient, encounter
            Ids, with or without their type.
        user
            Reference of the person.
        fhir_context
            Further resources in context, each ``{"reference": "ImagingStudy/1"}``.
        app_context
            Of the card whose link is followed.
        need_patient_banner
            Whether the app has to show who the patient is.

        Raises
        ------
        ValueError
            If there is no such patient.
        """
        patient_id = patient.removeprefix("Patient/")
        if self.store.record.find("Patient", patient_id) is None:
            msg = f"no Patient/{patient_id}"
            raise ValueError(msg)
        return self._office.ledger.new_launch(
            LaunchContext(
                user=user,
                patient=patient_id,
                encounter=encounter.removeprefix("Encounter/") if encounter else None,
                fhir_context=tuple(fhir_context),
                app_context=app_context,
                need_patient_banner=need_patient_banner,
            )
        )

    def cds_token(self, audience: str, **claims: object) -> str:
        """Sign a client token of the CDS client; ``claims`` replace its own, ``None`` removes."""
        return self._client.token(audience, **claims)

    def discover(self) -> httpx.Response:
        """Ask the app which CDS services it offers."""
        return self._client.discover()

    def call_hook(
        self, service_id: str, hook: str, context: Mapping[str, Any], *, prefetch: bool = True
    ) -> httpx.Response:
        """Discover the services and call one.

        Parameters
        ----------
        service_id, hook
            Which; one that is not discovered is called all the same, without prefetch.
        context
            Of the hook.
        prefetch
            Whether to resolve and send the prefetch templates.
        """
        named = {"id": service_id, "hook": hook}
        listed = services(self._client.discover())
        service = next((each for each in listed if named.items() <= each.items()), named)
        return self._client.call(service, context, prefetch=prefetch)

    def send_feedback(self, service_id: str, feedback: list[dict[str, Any]]) -> httpx.Response:
        """Tell a service what became of its cards."""
        return self._client.send_feedback(service_id, feedback)


def _application(office: Office, client: CdsClient) -> Flask:
    app = Flask(__name__)
    app.config["PROPAGATE_EXCEPTIONS"] = True  # an error of the judge is no verdict
    app.jinja_env.undefined = StrictUndefined
    app.jinja_env.trim_blocks = app.jinja_env.lstrip_blocks = True
    for blueprint in (
        smart_configuration(office),
        authorization_endpoint(office),
        token_endpoint(office),
        fhir_api(office),
        chart_pages(office, client),
        frame_pages(office),
    ):
        app.register_blueprint(blueprint)

    @app.errorhandler(HTTPException)
    def not_found(error: HTTPException) -> Response:
        if request.path.startswith("/fhir/"):
            return not_offered(office, error)
        html = render_template("refused.html", rule=error.description)
        return page_response(html, (), error.code or 500)

    return app
