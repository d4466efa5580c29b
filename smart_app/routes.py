"""Every route of the application, in one table: what opens it, and what it leaves in the trail.

The doors (``cds_server.web.doors``) enforce it, and the application does not start where the table
and the routes differ.
"""

from cds_server.permissions import Permission
from cds_server.web.doors import Door, Route

_SESSION, _CDS, _BEARER, _OPEN = Door.SESSION, Door.CDS, Door.BEARER, Door.OPEN
_STUDY = "/app/<handle>/studies/<uuid:result_id>"
_OPERATIONS = "/app/<handle>/operations"

ROUTES = (
    # Nothing of a patient
    Route("GET", "/", _OPEN),
    Route("GET", "/studies/<uuid:result_id>", _OPEN),
    Route("GET", "/static/<name>", _OPEN),
    Route("GET", "/livez", _OPEN),
    Route("GET", "/readyz", _OPEN),
    Route("GET", "/.well-known/jwks.json", _OPEN),
    Route("GET", "/fhir/metadata", _OPEN),
    Route("GET", "/fhir/.well-known/smart-configuration", _OPEN),
    # Ways in and out
    Route("GET", "/launch", _OPEN),
    Route("GET", "/callback", _OPEN, audit="110122"),
    Route("POST", "/callback", _OPEN, audit="110122"),
    Route("GET", "/sign-in", _OPEN),
    Route("POST", "/sign-in", _OPEN, audit="110122"),
    Route("GET", "/sign-in/<int:number>", _OPEN),
    Route("POST", "/app/<handle>/sign-out", _SESSION, Permission.END_SESSION, "110123"),
    # Pages of a signed-in person
    Route("GET", "/app/<handle>/worklist", _SESSION, Permission.READ_STUDY, "search"),
    Route("GET", "/app/<handle>/worklist/lines", _SESSION, Permission.READ_STUDY, "search"),
    Route("GET", _STUDY, _SESSION, Permission.READ_STUDY, "read"),
    Route("GET", f"{_STUDY}/images", _SESSION, Permission.READ_IMAGE, "read"),
    Route(
        "GET",
        f"{_STUDY}/images/<int:number>",
        _SESSION,
        Permission.READ_IMAGE,
        "read-once",
    ),
    Route("GET", f"{_STUDY}/artefacts/<name>", _SESSION, Permission.READ_STUDY, "read"),
    Route("POST", f"{_STUDY}/verdict", _SESSION, Permission.WRITE_VERDICT, "create"),
    Route("POST", f"{_STUDY}/break-glass", _SESSION, Permission.BREAK_GLASS, "110127"),
    Route("GET", _OPERATIONS, _SESSION, Permission.READ_OPERATIONS, "search"),
    Route("POST", f"{_OPERATIONS}/deliveries", _SESSION, Permission.OPERATE, "component"),
    Route("POST", f"{_OPERATIONS}/inbox", _SESSION, Permission.OPERATE, "component"),
    Route("POST", f"{_OPERATIONS}/destinations", _SESSION, Permission.OPERATE, "component"),
    Route(
        "GET",
        f"{_OPERATIONS}/messages/<uuid:publication_id>/<destination>",
        _SESSION,
        Permission.READ_MESSAGE,
        "read",
    ),
    # CDS Hooks
    Route("GET", "/cds-services", _CDS, Permission.CALL_CDS),
    Route("POST", "/cds-services/<service_id>", _CDS, Permission.CALL_CDS, "search"),
    Route("POST", "/cds-services/<service_id>/feedback", _CDS, Permission.CALL_CDS, "create"),
    # What the PACS tells
    Route("POST", "/pacs/events", Door.PACS),
    # What the monitoring asks
    Route("GET", "/metrics", Door.METRICS),
    # FHIR
    Route("GET", "/fhir/<resource_type>/<resource_id>", _BEARER, Permission.READ_FHIR, "search"),
    Route("GET", "/fhir/<resource_type>", _BEARER, Permission.READ_FHIR, "search"),
    Route("POST", "/fhir/<resource_type>/_search", _BEARER, Permission.READ_FHIR, "search"),
)
