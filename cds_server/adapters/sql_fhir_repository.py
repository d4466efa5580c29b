"""The embedded FHIR store: exact bytes, found by the few parameters that we index."""

from typing import Any

import orjson
from sqlalchemy import (
    ColumnElement,
    Connection,
    Engine,
    Text,
    and_,
    cast,
    delete,
    false,
    func,
    insert,
    or_,
    select,
    tuple_,
)
from sqlalchemy.exc import DatabaseError

from cds_server.adapters.fhir_token import Token, tokens
from cds_server.adapters.sql_schema import (
    fhir_identifier,
    fhir_origin,
    fhir_resource,
    result,
    worklist_line,
)
from cds_server.adapters.sql_transaction import reading, transaction
from cds_server.errors import (
    DeliveryFailed,
    DeliveryRefused,
    ResultNotFound,
    UnknownSearchParameter,
)
from cds_server.ports import FhirPage, FhirQuery, FhirReach

_PARAMETERS = ("_id", "identifier", "patient", "status")
# Compared as a pair: with the type apart, SQLite would walk all of a type, not the index.
_KEY = tuple_(fhir_resource.c.resource_type, fhir_resource.c.resource_id)


class SqlFhirRepository:
    """FHIR resources on the engine of ``sql_schema.open_engine``."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def transaction(self, bundle: bytes) -> None:
        """Put every entry under its own id, all or none.

        Raises
        ------
        DeliveryRefused
            If it is not a transaction of PUT entries.
        DeliveryFailed
            If the database cannot be written now.
        """
        resources = _put_entries(bundle)
        origin = _origin(resources)
        try:
            with transaction(self._engine) as connection:
                for resource in resources:
                    _put(connection, resource, origin)
        except DatabaseError as error:
            msg = f"the FHIR store cannot be written ({error.orig})"
            raise DeliveryFailed(msg) from error

    def read(self, resource_type: str, resource_id: str) -> bytes:
        """Give the stored bytes of one resource.

        Raises
        ------
        ResultNotFound
            If there is no such resource.
        """
        query = select(fhir_resource.c.content).where(
            fhir_resource.c.resource_type == resource_type,
            fhir_resource.c.resource_id == resource_id,
        )
        with reading(self._engine) as connection:
            content = connection.scalar(query)
        if content is None:
            msg = f"there is no {resource_type} with this id"
            raise ResultNotFound(msg)
        return bytes(content)

    def result_of(self, resource_type: str, resource_id: str) -> str | None:
        """Give the result that a resource belongs to, or ``None`` where that is not known."""
        query = select(fhir_origin.c.result_id).where(
            fhir_origin.c.resource_type == resource_type,
            fhir_origin.c.resource_id == resource_id,
        )
        with reading(self._engine) as connection:
            return connection.scalar(query)

    def search(self, query: FhirQuery, reach: FhirReach) -> FhirPage:
        """Give a page of the resources that match every parameter and are within reach.

        Raises
        ------
        UnknownSearchParameter
            If a parameter is not one of ``_id``, ``identifier``, ``patient``, ``status``, or its
            value is not understood.
        """
        matching = and_(
            fhir_resource.c.resource_type == query.resource_type,
            *(_matches(name, value) for name, value in query.parameters),
            *_within(reach),
        )
        page = (
            select(fhir_resource.c.resource_id, fhir_resource.c.content)
            .where(matching, fhir_resource.c.resource_id > query.after)
            .order_by(fhir_resource.c.resource_id)
            .limit(query.count + 1)
        )
        number = select(func.count()).select_from(fhir_resource).where(matching)
        with reading(self._engine) as connection:
            total = connection.scalar(number) or 0
            rows = connection.execute(page).all() if query.count else []
        shown = rows[: query.count]
        return FhirPage(
            [bytes(row.content) for row in shown],
            total,
            shown[-1].resource_id if len(rows) > query.count else "",
        )


def _within(reach: FhirReach) -> list[ColumnElement[bool]]:
    """Keep what may be seen: decided here, so that no page comes short and no count says more."""
    conditions: list[ColumnElement[bool]] = []
    origin = fhir_origin.c
    if reach.results is not None:
        own = select(origin.resource_type, origin.resource_id).where(
            origin.result_id.in_(reach.results)
        )
        conditions.append(_KEY.in_(own))
    if reach.centres:
        of_centre = (
            select(origin.resource_id)
            .join(worklist_line, worklist_line.c.result_id == origin.result_id)
            .outerjoin(result, result.c.result_id == origin.result_id)
            .where(
                origin.resource_type == fhir_resource.c.resource_type,
                origin.resource_id == fhir_resource.c.resource_id,
                or_(result.c.result_id.is_(None), worklist_line.c.centre.in_(reach.centres)),
            )
        )
        conditions.append(of_centre.exists())
    return conditions


def _matches(name: str, value: str) -> ColumnElement[bool]:
    """Say what one search parameter asks: that any of its alternatives holds.

    Raises
    ------
    UnknownSearchParameter
        If it is not supported.
    """
    if name not in _PARAMETERS:
        msg = f"search parameter {name!r} is not supported; these are: {', '.join(_PARAMETERS)}"
        raise UnknownSearchParameter(msg)
    alternatives = tokens(name, value)
    if name == "identifier":
        own = select(fhir_identifier.c.resource_type, fhir_identifier.c.resource_id).where(
            or_(false(), *(_identified(each) for each in alternatives))
        )
        return _KEY.in_(own)
    if name == "patient":
        return or_(false(), *(_of_patient(each) for each in alternatives))
    column = fhir_resource.c.resource_id if name == "_id" else fhir_resource.c.status
    return column.in_([_plain(name, each) for each in alternatives])


def _plain(name: str, token: Token) -> str:
    """Give the value of a parameter that has no namespace here.

    Raises
    ------
    UnknownSearchParameter
        If one is given.
    """
    if token.system is not None:
        msg = f"search parameter {name!r} takes plain values, without a system and |"
        raise UnknownSearchParameter(msg)
    return token.value


def _identified(token: Token) -> ColumnElement[bool]:
    of_system = fhir_identifier.c.system == token.system
    if token.system is None:
        return fhir_identifier.c.value == token.value
    return and_(of_system, fhir_identifier.c.value == token.value) if token.value else of_system


def _of_patient(token: Token) -> ColumnElement[bool]:
    """Compare the identifier of the subject; the number first, which few resources share.

    Raises
    ------
    UnknownSearchParameter
        If it is a reference, or no number is given.
    """
    named = token.system is None and f"/{token.value}".rpartition("/")[0].endswith("/Patient")
    if named or not token.value:
        msg = (
            "search parameter 'patient' takes the identifier of a patient, as system|value; "
            "references are not known here"
        )
        raise UnknownSearchParameter(msg)
    same = fhir_resource.c.patient == token.value
    if token.system is None:
        return same
    content = cast(fhir_resource.c.content, Text)
    system = func.json_extract(content, "$.subject.identifier.system")
    return and_(same, func.coalesce(system, "") == token.system)


def _put_entries(bundle: bytes) -> list[dict[str, Any]]:
    """Read the resources of a transaction.

    Raises
    ------
    DeliveryRefused
        If an entry is anything but a PUT to its own id.
    """
    try:
        value = orjson.loads(bundle)
        entries = value["entry"]
        is_transaction = value["resourceType"] == "Bundle" and value["type"] == "transaction"
        for entry in entries:
            resource = entry["resource"]
            own = f"{resource['resourceType']}/{resource['id']}"
            is_transaction &= entry["request"] == {"method": "PUT", "url": own}
    except (orjson.JSONDecodeError, KeyError, TypeError) as error:
        msg = "the bundle is not a FHIR transaction"
        raise DeliveryRefused(msg) from error
    if not is_transaction:
        msg = "the bundle is not a transaction of PUT entries to their own ids"
        raise DeliveryRefused(msg)
    return [entry["resource"] for entry in entries]


def _origin(resources: list[dict[str, Any]]) -> str:
    """Find the result that a transaction publishes, in the identifier of its report."""
    for resource in resources:
        if resource["resourceType"] == "DiagnosticReport":
            for identifier in resource.get("identifier", ()):
                value = str(identifier.get("value", ""))
                if value.startswith("urn:uuid:"):
                    return value.removeprefix("urn:uuid:")
    return ""


def _put(connection: Connection, resource: dict[str, Any], origin: str) -> None:
    kind, own_id = resource["resourceType"], resource["id"]
    for table in (fhir_resource, fhir_identifier, fhir_origin):
        connection.execute(
            delete(table).where(table.c.resource_type == kind, table.c.resource_id == own_id)
        )
    connection.execute(
        insert(fhir_resource).values(
            resource_type=kind,
            resource_id=own_id,
            status=str(resource.get("status", "")),
            patient=resource.get("subject", {}).get("identifier", {}).get("value", ""),
            content=orjson.dumps(resource),
        )
    )
    if origin:
        connection.execute(
            insert(fhir_origin).values(resource_type=kind, resource_id=own_id, result_id=origin)
        )
    for system, value in _identifiers(resource):
        connection.execute(
            insert(fhir_identifier).values(
                resource_type=kind, resource_id=own_id, system=system, value=value
            )
        )


def _identifiers(resource: dict[str, Any]) -> set[tuple[str, str]]:
    """Give own identifiers, and those of the orders that a resource answers."""
    own = resource.get("identifier", [])
    orders = [each.get("identifier", {}) for each in resource.get("basedOn", [])]
    return {(str(each.get("system", "")), str(each["value"])) for each in [*own, *orders] if each}
