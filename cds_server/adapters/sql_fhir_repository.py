"""The embedded FHIR store: exact bytes, found by the few parameters that we index."""

from collections.abc import Mapping, Sequence
from typing import Any

import orjson
from sqlalchemy import Connection, Engine, Select, delete, insert, select
from sqlalchemy.exc import DatabaseError

from cds_server.adapters.sql_schema import fhir_identifier, fhir_origin, fhir_resource
from cds_server.errors import (
    DeliveryFailed,
    DeliveryRefused,
    ResultNotFound,
    UnknownSearchParameter,
)

_PARAMETERS = ("_id", "identifier", "patient", "status")


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
            with self._engine.begin() as connection:
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
        with self._engine.connect() as connection:
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
        with self._engine.connect() as connection:
            return connection.scalar(query)

    def search(self, resource_type: str, parameters: Mapping[str, str]) -> Sequence[bytes]:
        """Give the resources that match every parameter.

        Raises
        ------
        UnknownSearchParameter
            If a parameter is not one of ``_id``, ``identifier``, ``patient``, ``status``.
        """
        query: Select[Any] = select(fhir_resource.c.content).where(
            fhir_resource.c.resource_type == resource_type
        )
        for name, value in parameters.items():
            query = _narrowed(query, name, value)
        with self._engine.connect() as connection:
            ordered = query.order_by(fhir_resource.c.resource_id)
            return [bytes(content) for content in connection.scalars(ordered)]


def _narrowed(query: Select[Any], name: str, value: str) -> Select[Any]:
    """Add one search parameter.

    Raises
    ------
    UnknownSearchParameter
        If it is not supported.
    """
    if name == "_id":
        return query.where(fhir_resource.c.resource_id == value)
    if name == "status":
        return query.where(fhir_resource.c.status == value)
    if name == "patient":
        return query.where(fhir_resource.c.patient == value.rpartition("|")[2])
    if name == "identifier":
        system, bar, token = value.rpartition("|")
        matching = select(fhir_identifier.c.resource_id).where(
            fhir_identifier.c.resource_type == fhir_resource.c.resource_type,
            fhir_identifier.c.resource_id == fhir_resource.c.resource_id,
            fhir_identifier.c.value == token,
        )
        if bar:
            matching = matching.where(fhir_identifier.c.system == system)
        return query.where(matching.exists())
    msg = f"search parameter {name!r} is not supported; these are: {', '.join(_PARAMETERS)}"
    raise UnknownSearchParameter(msg)


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
