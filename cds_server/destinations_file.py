"""Read the receivers of results from their TOML file. An unknown key is refused.

::

    [[hl7]]
    name = "ris"
    address = "ris.example.org:2575"
    version = "2.5.1"
    tls = { ca = "ca.pem", certificate = "radcds.pem", key = "radcds.key" }
    receiver = ["RIS", "RADIOLOGY"]
    link = true
    per_second = 10

    [[fhir]]
    name = "trust"
    url = "https://fhir.example.org/r4"
    auth = "smart"
    client_id = "radcds"
    profiles = ["uk-core"]

    [hl7_inbound]
    address = "0.0.0.0:2576"
    tls = { ca = "ca.pem", certificate = "radcds.pem", key = "radcds.key" }
    allowed = ["10.1.2.0/24"]
    reports_sign = false

Files are looked for beside the TOML file.
"""

import ipaddress
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from cds_server.errors import InvalidSettings
from cds_server.mllp.endpoint import Endpoint, Listening
from cds_server.mllp.tls import TlsFiles
from cds_server.network import is_protected
from fhir_mappers.errors import InvalidMessage
from fhir_mappers.fhir_rules.profiles import Profile
from fhir_mappers.hl7_dialect import (
    AcknowledgementMode,
    CharacterSet,
    Hl7Dialect,
    Hl7Version,
    PriorityField,
)
from fhir_mappers.report_context import Site

_NAME = re.compile(r"[a-z][a-z0-9-]{0,30}")
_TAKEN = frozenset({"fhir", "folder", "hl7", "pacs", "dicom"})
_KB = 1024
_LINKED = frozenset({"Patient", "ServiceRequest"})
_SCOPES = ("system/*.cruds",)


class FhirAuth(StrEnum):
    """How this server signs in to a FHIR server."""

    NONE = "none"
    BASIC = "basic"
    BEARER = "bearer"
    SMART = "smart"
    AZURE = "azure"


@dataclass(frozen=True, slots=True)
class Hl7Receiver:
    """A system that gets an ORU message of each result.

    Parameters
    ----------
    name
        Of the destination.
    endpoint, dialect
        Where it listens, and how it wants its messages.
    timeout_s
        Seconds to wait for an acknowledgement.
    per_second
        Most messages a second; ``None`` is without limit.
    """

    name: str
    endpoint: Endpoint
    dialect: Hl7Dialect
    timeout_s: float = 30.0
    per_second: float | None = None


@dataclass(frozen=True, slots=True)
class FhirReceiver:
    """A FHIR server that gets a transaction of each result.

    Parameters
    ----------
    name, url
        Of the destination, and its base address.
    auth
        How this server signs in there.
    credentials
        With ``basic``, the file with ``user:password``; with ``bearer``, that with the token.
    client_id, token_url, scopes
        With ``smart``, how it is registered there.
    linked
        Which resources there are looked for by identifier, and referred to.
    profiles
        Rules that each transaction has to keep before it is sent.
    timeout_s
        Seconds to wait for an answer.
    """

    name: str
    url: str
    auth: FhirAuth = FhirAuth.NONE
    credentials: Path | None = None
    client_id: str = ""
    token_url: str = ""
    scopes: tuple[str, ...] = _SCOPES
    linked: frozenset[str] = _LINKED
    profiles: tuple[Profile, ...] = ()
    timeout_s: float = 30.0


@dataclass(frozen=True, slots=True)
class Receivers:
    """Everyone who gets results over the network, and where orders and reports come in.

    Parameters
    ----------
    hl7, fhir
        Who gets results.
    inbound
        Where messages come in.
    reports_sign
        Whether a report that comes in, final or corrected, signs the AI's result of its study.
    """

    hl7: tuple[Hl7Receiver, ...] = ()
    fhir: tuple[FhirReceiver, ...] = ()
    inbound: Listening | None = None
    reports_sign: bool = False


def read_receivers(path: Path, site: Site) -> Receivers:
    """Read and check the file.

    Parameters
    ----------
    path
        The file.
    site
        Whose names stand in messages where the file gives no others.

    Raises
    ------
    InvalidSettings
        If it cannot be read, a key is unknown, missing or no good, an address is unsafe, or a name
        is used twice. The message names the table and the key.
    """
    try:
        tables = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        msg = f"destinations: {path} cannot be read as TOML ({error})"
        raise InvalidSettings(msg) from error
    file = _Table(tables, "the file", path.parent)
    try:
        inbound = file.table("hl7_inbound")
        reports_sign = bool(inbound and inbound("reports_sign", default=False))
        receivers = Receivers(
            tuple(_hl7(each, site) for each in file.tables("hl7")),
            tuple(_fhir(each) for each in file.tables("fhir")),
            _listening(inbound) if inbound else None,
            reports_sign,
        )
        file.end()
        _check_names([h.name for h in receivers.hl7] + [f.name for f in receivers.fhir])
    except (InvalidMessage, InvalidSettings, TypeError, ValueError) as error:
        msg = f"destinations: {path}: {error}"
        raise InvalidSettings(msg) from error
    return receivers


class _Table:
    """A table of the file, whose keys are all to be taken."""

    def __init__(self, values: Mapping[str, Any], where: str, folder: Path) -> None:
        self._values = dict(values)
        self._where = where
        self._folder = folder
        self._known: list[str] = []

    def __call__(self, key: str, default: Any = None) -> Any:  # noqa: ANN401 - any TOML value
        """Take a value, of the type of its default.

        Raises
        ------
        TypeError
            If it has another.
        """
        self._known.append(key)
        value = self._values.pop(key, default)
        kind = (int, float) if isinstance(default, float) else type(default)
        if default is not None and (
            not isinstance(value, kind) or isinstance(value, bool) is not isinstance(default, bool)
        ):
            msg = f"{self._where}: {key} must be like {default!r}"
            raise TypeError(msg)
        return value

    def required(self, key: str) -> str:
        """Take a text that has to be there.

        Raises
        ------
        ValueError
            If it is not.
        """
        value: str = self(key, "")
        if not value:
            msg = f"{self._where}: {key} is missing"
            raise ValueError(msg)
        return value

    def texts(self, key: str, default: tuple[str, ...] = ()) -> tuple[str, ...]:
        """Take a list of texts.

        Raises
        ------
        TypeError
            If it is none.
        """
        value = self(key, list(default))
        if not all(isinstance(each, str) for each in value):
            msg = f"{self._where}: {key} must be a list of texts"
            raise TypeError(msg)
        return tuple(value)

    def file(self, key: str) -> Path | None:
        """Take a path, from the folder of the file."""
        value: str = self(key, "")
        return self._folder / value if value else None

    def table(self, key: str) -> "_Table | None":
        """Take a table."""
        value = self(key, {})
        return _Table(value, key, self._folder) if value else None

    def tables(self, key: str) -> list["_Table"]:
        """Take a list of tables.

        Raises
        ------
        TypeError
            If it is none.
        """
        value = self(key, [])
        if not all(isinstance(each, dict) for each in value):
            msg = f"{self._where}: write [[{key}]]"
            raise TypeError(msg)
        return [
            _Table(each, f"{key} {each.get('name', '')}".strip(), self._folder) for each in value
        ]

    def end(self) -> None:
        """See that nothing is left.

        Raises
        ------
        ValueError
            Naming the first key that is unknown, and those that there are.
        """
        for key in self._values:
            known = ", ".join(sorted(self._known))
            msg = f"{self._where}: unknown key {key!r}; the keys are {known}"
            raise ValueError(msg)


def _hl7(table: _Table, site: Site) -> Hl7Receiver:
    host, port = _address(table)
    usual = Hl7Dialect.of(site)
    overlay_kb = table("overlay_kb", -1)
    priority = table("priority", "")
    receiver = Hl7Receiver(
        table.required("name"),
        Endpoint(host, port, _tls(table), clear_text=table("clear_text", default=False)),
        Hl7Dialect(
            _pair(table, "sender", usual.sender),
            _pair(table, "receiver", usual.receiver),
            Hl7Version(table("version", "2.5.1")),
            CharacterSet(table("character_set", "UNICODE UTF-8")),
            None if overlay_kb < 0 else overlay_kb * _KB,
            table("link", default=False),
            AcknowledgementMode(table("acknowledgement", "original")),
            PriorityField(priority) if priority else None,
        ),
        _above_zero(table, "timeout_s", 30.0),
        _above_zero(table, "per_second", 0.0) or None,
    )
    table.end()
    return receiver


def _fhir(table: _Table) -> FhirReceiver:
    """Read a FHIR server.

    Raises
    ------
    ValueError
        If results or tokens would travel in the clear.
    """
    receiver = FhirReceiver(
        table.required("name"),
        table.required("url"),
        FhirAuth(table("auth", "none")),
        table.file("credentials"),
        table("client_id", ""),
        table("token_url", ""),
        table.texts("scopes", _SCOPES),
        frozenset(table.texts("linked", tuple(sorted(_LINKED)))),
        tuple(Profile(each) for each in table.texts("profiles")),
        _above_zero(table, "timeout_s", 30.0),
    )
    table.end()
    if unknown := sorted(receiver.linked - _LINKED):
        msg = f"fhir {receiver.name}: {unknown[0]} cannot be linked; Patient and ServiceRequest can"
        raise ValueError(msg)
    for address in (receiver.url, receiver.token_url):
        if address and not is_protected(address):
            msg = f"fhir {receiver.name}: {address} must be https"
            raise ValueError(msg)
    if receiver.auth is FhirAuth.SMART and not receiver.client_id:
        msg = f"fhir {receiver.name}: smart needs a client_id"
        raise ValueError(msg)
    if receiver.auth in {FhirAuth.BASIC, FhirAuth.BEARER} and receiver.credentials is None:
        msg = f"fhir {receiver.name}: {receiver.auth} needs the file of its credentials"
        raise ValueError(msg)
    return receiver


def _listening(table: _Table) -> Listening:
    host, port = _address(table)
    listening = Listening(
        host,
        port,
        _tls(table),
        clear_text=table("clear_text", default=False),
        allowed=tuple(ipaddress.ip_network(each) for each in table.texts("allowed")),
    )
    table.end()
    return listening


def _tls(table: _Table) -> TlsFiles | None:
    files = table.table("tls")
    if files is None:
        return None
    tls = TlsFiles(files.file("ca"), files.file("certificate"), files.file("key"))
    files.end()
    return tls


def _address(table: _Table) -> tuple[str, int]:
    """Read a host and a port.

    Raises
    ------
    ValueError
        If it is none.
    """
    address = table.required("address")
    host, _, port = address.rpartition(":")
    if not host or not port.isdecimal():
        msg = f"{address!r} is no address; write one like ris.example.org:2575"
        raise ValueError(msg)
    return host.strip("[]"), int(port)


def _pair(table: _Table, key: str, default: tuple[str, str]) -> tuple[str, str]:
    """Read application and facility.

    Raises
    ------
    ValueError
        If they are not two.
    """
    values = table.texts(key, default)
    if len(values) != len(default):
        msg = f"{key} is a list of two texts, application and facility"
        raise ValueError(msg)
    return values[0], values[1]


def _above_zero(table: _Table, key: str, default: float) -> float:
    """Read a number.

    Raises
    ------
    ValueError
        If it is not above zero.
    """
    value = float(table(key, default))
    if value < 0 or (default and not value):
        msg = f"{key} must be above zero"
        raise ValueError(msg)
    return value


def _check_names(names: list[str]) -> None:
    """See that each destination can be told from the others.

    Raises
    ------
    ValueError
        If one cannot.
    """
    for name in names:
        if not _NAME.fullmatch(name) or name in _TAKEN:
            taken = ", ".join(sorted(_TAKEN))
            msg = f"name {name!r}: write small letters, digits and hyphens, and none of {taken}"
            raise ValueError(msg)
        if names.count(name) > 1:
            msg = f"name {name!r} is used twice"
            raise ValueError(msg)
