"""Profiles of FHIR, compared before something is sent: tables of FHIRPath rules.

Not while a study is read: a FHIRPath engine takes milliseconds for a resource.
"""

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import cache
from typing import Any

import fhirpathpy
import orjson
from fhirpathpy.models import models

from fhir_mappers.errors import InvalidMessage
from fhir_mappers.fhir_rules.ai_transparency import AI_TRANSPARENCY, AI_TRANSPARENCY_OF_BUNDLES
from fhir_mappers.fhir_rules.balp import claimed_rules
from fhir_mappers.fhir_rules.imr import IMR
from fhir_mappers.fhir_rules.rule import ProfileRule
from fhir_mappers.fhir_rules.uk_core import UK_CORE

Json = Mapping[str, Any]


class Profile(StrEnum):
    """A set of profiles that a receiver may ask for."""

    UK_CORE = "uk-core"
    AI_TRANSPARENCY = "ai-transparency"
    BALP = "balp"
    IMR = "imr"


@dataclass(frozen=True, slots=True)
class ProfileFault:
    """One rule that a resource does not keep. It holds nothing of a patient.

    Parameters
    ----------
    profile
        Whose rule it is.
    rule
        Its key, as in ``docs/reference/fhir-profiles.md``.
    resource
        Which resource: ``Type/id``, or the type where it has no id.
    says
        What must be, for a person.
    """

    profile: Profile
    rule: str
    resource: str
    says: str

    def __str__(self) -> str:
        """Say it in one line, for an error or a log."""
        return f"{self.resource}: {self.says} ({self.profile}, {self.rule})"


RULES: Mapping[Profile, tuple[ProfileRule, ...]] = {
    Profile.UK_CORE: UK_CORE,
    Profile.AI_TRANSPARENCY: (*AI_TRANSPARENCY, *AI_TRANSPARENCY_OF_BUNDLES),
    Profile.BALP: (),
    Profile.IMR: IMR,
}
"""Rules by profile; those of ``BALP`` go by what an AuditEvent claims."""


def profile_faults(content: bytes, profiles: Collection[Profile]) -> tuple[ProfileFault, ...]:
    """Compare a Bundle, or one resource, with profiles.

    Parameters
    ----------
    content
        A FHIR R4 resource as JSON, such as a transaction Bundle; of a Bundle every resource in it
        is compared as well.
    profiles
        Which ones. ``IMR`` only for what a radiologist signed.

    Returns
    -------
    tuple of ProfileFault
        Every rule that is not kept; empty where all are.

    Raises
    ------
    InvalidMessage
        If it is no FHIR resource.

    References
    ----------
    FHIRPath 2.0 http://hl7.org/fhirpath/N1; FHIR R4 conformance-rules.html.
    """
    try:
        resource = orjson.loads(content)
        inside = [each["resource"] for each in resource.get("entry", ()) if "resource" in each]
        every = [(each, str(each["resourceType"])) for each in (resource, *inside)]
    except (orjson.JSONDecodeError, AttributeError, KeyError, TypeError):
        msg = "it is no FHIR resource in JSON"
        raise InvalidMessage(msg) from None
    return tuple(
        ProfileFault(profile, rule.key, "/".join(filter(None, (kind, each.get("id")))), rule.says)
        for each, kind in every
        for profile in Profile
        if profile in profiles
        for rule in _rules(profile, each)
        if rule.of == kind and not _holds(rule, each)
    )


def _rules(profile: Profile, resource: Json) -> Iterator[ProfileRule]:
    yield from RULES[profile]
    if profile is Profile.BALP:
        for claimed in resource.get("meta", {}).get("profile", ()):
            yield from claimed_rules(claimed)


def _holds(rule: ProfileRule, resource: Json) -> bool:
    return _compiled(rule.expression)(resource, None) == [True]


@cache
def _compiled(expression: str) -> Callable[[Json, None], list[object]]:
    return fhirpathpy.compile(expression, models["r4"])
