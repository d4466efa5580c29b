"""Read the network from its TOML file. An unknown key is refused, so that no safeguard is misspelt.

::

    [[centre]]
    id = "north"
    name = "North Hospital"
    institutions = ["NORTH HOSPITAL"]

    [[ehr]]
    name = "North EHR"
    fhir_base_url = "https://ehr.example.org/fhir"
    centres = ["north"]
    frame_ancestors = ["https://ehr.example.org"]
    cds = { issuer = "https://ehr.example.org", jwks_url = "https://ehr.example.org/jwks.json" }
    smart = { client_id = "radcds" }
"""

import re
import tomllib
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any, TypeVar

from cds_server.errors import InvalidSettings
from cds_server.network import (
    CdsClient,
    Centre,
    Ehr,
    Network,
    Role,
    SmartRegistration,
    SystemActions,
    TokenIssuer,
    is_protected,
)

_ORIGIN = re.compile(r"https?://[A-Za-z0-9.\-]+(:\d{1,5})?|https?://\[[0-9a-f:]+\](:\d{1,5})?")
_ALGORITHMS = frozenset({"ES384", "RS384"})
_KINDS = {"centre": Centre, "ehr": Ehr, "token_issuer": TokenIssuer}
_Value = TypeVar("_Value")


def read_network(path: Path) -> Network:
    """Read and check the file.

    Raises
    ------
    InvalidSettings
        If it cannot be read, a key is unknown or missing, an address is unsafe, or something is
        listed twice. The message names the table and the key.
    """
    try:
        tables = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        msg = f"network: {path} cannot be read as TOML ({error})"
        raise InvalidSettings(msg) from error
    try:
        _only(tables, _KINDS, "the file")
        network = Network(
            centres=tuple(_centre(each) for each in tables.get("centre", ())),
            ehrs=tuple(_ehr(each) for each in tables.get("ehr", ())),
            token_issuers=tuple(_issuer(each) for each in tables.get("token_issuer", ())),
        )
        _check(network)
    except (TypeError, ValueError, AttributeError) as error:
        msg = f"network: {path}: {error}"
        raise InvalidSettings(msg) from error
    return network


def _centre(table: Mapping[str, Any]) -> Centre:
    return _built(Centre, table, institutions=frozenset(_texts(table, "institutions")))


def _ehr(table: Mapping[str, Any]) -> Ehr:
    name = table.get("name", "without a name")
    cds, smart = table.get("cds"), table.get("smart")
    for key in ("frame_ancestors", "cors_origins"):
        for address in _texts(table, key):
            _safe(address, f"ehr {name}")
            if not _ORIGIN.fullmatch(address):
                msg = f"ehr {name}: {address} is no origin; write one like https://ehr.example.org"
                raise ValueError(msg)
    return _built(
        Ehr,
        table,
        fhir_base_url=_safe(table.get("fhir_base_url", ""), f"ehr {name}").rstrip("/"),
        centres=frozenset(_texts(table, "centres")),
        cds=_cds(cds, name) if cds is not None else None,
        smart=_smart(smart, name) if smart is not None else None,
        frame_ancestors=tuple(_texts(table, "frame_ancestors")),
        cors_origins=tuple(_texts(table, "cors_origins")),
        system_actions=SystemActions(table.get("system_actions", "")),
    )


def _cds(table: Mapping[str, Any], name: str) -> CdsClient:
    _safe(table.get("jwks_url", ""), f"ehr {name}: cds")
    return _built(CdsClient, table, tenants=frozenset(_texts(table, "tenants")))


def _smart(table: Mapping[str, Any], name: str) -> SmartRegistration:
    """Read what this server is to an authorisation server.

    Raises
    ------
    ValueError
        If the algorithm or a role is unknown.
    """
    if table.get("algorithm", "ES384") not in _ALGORITHMS:
        msg = f"ehr {name}: smart.algorithm must be one of {', '.join(sorted(_ALGORITHMS))}"
        raise ValueError(msg)
    default = table.get("default_role", Role.CLINICIAN)
    return _built(
        SmartRegistration,
        table,
        roles={who: Role(role) for who, role in table.get("roles", {}).items()},
        default_role=Role(default) if default else None,
        backend_scopes=tuple(_texts(table, "backend_scopes")),
    )


def _issuer(table: Mapping[str, Any]) -> TokenIssuer:
    """Read an issuer of access tokens.

    Raises
    ------
    ValueError
        If it says neither where its keys are nor where to ask.
    """
    name = table.get("issuer", "")
    for key in ("issuer", "jwks_url", "introspection_url", "token_endpoint"):
        if table.get(key):
            _safe(table[key], f"token_issuer {name}")
    if not (table.get("jwks_url") or table.get("introspection_url")):
        msg = f"token_issuer {name}: give jwks_url or introspection_url"
        raise ValueError(msg)
    return _built(TokenIssuer, table, centres=frozenset(_texts(table, "centres")))


def _built(kind: type[_Value], table: Mapping[str, Any], **changes: object) -> _Value:
    """Build a value of known keys.

    Raises
    ------
    TypeError
        If a key is unknown or missing.
    """
    _only(table, {each.name for each in fields(kind)}, kind.__name__.lower())  # type: ignore[arg-type]
    return kind(**{**table, **changes})


def _texts(table: Mapping[str, Any], key: str) -> list[str]:
    """Give a list of texts; empty where there is none.

    Raises
    ------
    TypeError
        If it is no list of texts: a text alone would be read letter by letter.
    """
    value = table.get(key, [])
    if not isinstance(value, list) or not all(isinstance(each, str) for each in value):
        msg = f"{key} must be a list of texts"
        raise TypeError(msg)
    return value


def _only(table: Mapping[str, Any], known: Mapping[str, Any] | set[str], where: str) -> None:
    """Refuse unknown keys.

    Raises
    ------
    ValueError
        Naming the first one and what there is.
    """
    unknown = sorted(set(table) - set(known))
    if unknown:
        msg = f"{where}: unknown key {unknown[0]!r}; the keys are {', '.join(sorted(known))}"
        raise ValueError(msg)


def _safe(address: str, where: str) -> str:
    """Give an address back if what travels to it is protected.

    Raises
    ------
    ValueError
        If it is not https, nor http on this machine.
    """
    try:
        protected = is_protected(address)
    except ValueError as error:
        msg = f"{where}: {address!r} is {error}"
        raise ValueError(msg) from error
    if not protected:
        msg = f"{where}: {address} must be https"
        raise ValueError(msg)
    return address


def _check(network: Network) -> None:
    """Refuse what is listed twice, and centres that are not there.

    Raises
    ------
    ValueError
        Naming it.
    """
    named = {
        "centre": [centre.id for centre in network.centres],
        "fhir_base_url": [ehr.fhir_base_url for ehr in network.ehrs],
        "cds issuer": [ehr.cds.issuer for ehr in network.ehrs if ehr.cds],
        "institution": [i.casefold() for centre in network.centres for i in centre.institutions],
        "token_issuer": [issuer.issuer for issuer in network.token_issuers],
    }
    for what, values in named.items():
        twice = sorted({value for value in values if values.count(value) > 1})
        if twice:
            msg = f"{what} {twice[0]!r} is listed twice"
            raise ValueError(msg)
    if sum(bool(issuer.introspection_url) for issuer in network.token_issuers) > 1:
        msg = "at most one token_issuer may have an introspection_url: opaque tokens name no issuer"
        raise ValueError(msg)
    known = set(named["centre"])
    trusted = [ehr.centres for ehr in network.ehrs]
    for centres in [*trusted, *(issuer.centres for issuer in network.token_issuers)]:
        missing = sorted(centres - known)
        if missing:
            msg = f"centre {missing[0]!r} is trusted with, but not listed"
            raise ValueError(msg)
