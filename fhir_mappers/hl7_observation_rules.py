"""What OBX-2 says of OBX-5, and what a report may not be without.

References
----------
HL7 v2.5.1 ch. 7.4.1 OBR, 7.4.2 OBX, ch. 2A ED, RP; tables 0085, 0125, 0191, 0291, 0299.
"""

import base64
import binascii
from collections.abc import Iterator

from fhir_mappers.er7 import LONGEST_OBX_5
from fhir_mappers.hl7_dialect import OLDER_LONGEST_OBX_5
from fhir_mappers.hl7_faults import Hl7Fault, outside, wrong_type
from fhir_mappers.hl7_inbound.hl7_message import ErrorCode, ReceivedSegment, Value
from fhir_mappers.hl7_tables import ENCAPSULATED, TABLES

_WITHOUT_VALUE = frozenset({"D", "I", "N", "O", "W", "X"})
_CODED = frozenset({"CE", "CWE", "CNE"})
_ED_COMPONENTS, _RP_COMPONENTS = 5, 4
_OBX_5_GREW_IN = (2, 5)


def report_faults(obr: ReceivedSegment) -> Iterator[Hl7Fault]:
    """Check what ch. 7.4.1 requires of a report."""
    for number, words in ((3, "the filler order number"), (25, "the result status")):
        if not obr.part(number):
            yield Hl7Fault(
                obr.place(number), f"{words} of a report is missing", "send it",
                ErrorCode.REQUIRED_FIELD,
            )  # fmt: skip


def observation_faults(obx: ReceivedSegment, version: str) -> Iterator[Hl7Fault]:
    """Check the value of an OBX."""
    kind, raw = obx.part(2), obx.raw(5)
    longest = LONGEST_OBX_5 if _numbers(version) >= _OBX_5_GREW_IN else OLDER_LONGEST_OBX_5
    if len(raw) > longest:
        yield Hl7Fault(
            obx.place(5), f"longer than {longest:,} characters", "send less", ErrorCode.TOO_LONG
        )
    if raw and not kind:
        yield Hl7Fault(
            obx.place(2), "the type of the value is missing", "send it", ErrorCode.REQUIRED_FIELD
        )
    if not raw and kind and obx.part(11) not in _WITHOUT_VALUE:
        yield Hl7Fault(
            obx.place(5), "the value is missing", "send it, or say in OBX-11 why there is none",
            ErrorCode.REQUIRED_FIELD,
        )  # fmt: skip
    for value in obx.values(5):
        yield from _typed_faults(obx, kind, value)


def _typed_faults(obx: ReceivedSegment, kind: str, value: Value) -> Iterator[Hl7Fault]:
    if not value.raw:
        return
    if kind == "ED":
        yield from _encapsulated_faults(obx, value)
    elif kind == "RP":
        yield from _pointer_faults(obx, value)
    elif kind in _CODED and not any(value.part(component) for component in (1, 2)):
        yield Hl7Fault(
            obx.place(5), "neither code nor text", "send one of them", ErrorCode.DATA_TYPE
        )
    elif wrong := wrong_type(kind, value):
        yield Hl7Fault(obx.place(5), f"not a {kind}, as OBX-2 says", wrong, ErrorCode.DATA_TYPE)


def _pointer_faults(obx: ReceivedSegment, value: Value) -> Iterator[Hl7Fault]:
    if _count(value) > _RP_COMPONENTS or not value.part(1):
        yield Hl7Fault(
            obx.place(5), "not a reference pointer", "send pointer^application^type^subtype",
            ErrorCode.DATA_TYPE,
        )  # fmt: skip
    for component, table in ((3, "0191"), (4, "0291")):
        yield from _component_faults(obx, value, component, table)


def _count(value: Value) -> int:
    return len(value.raw.split(value.separators.component))


def _encapsulated_faults(obx: ReceivedSegment, value: Value) -> Iterator[Hl7Fault]:
    count = _count(value)
    if count != _ED_COMPONENTS:
        yield Hl7Fault(
            obx.place(5), f"an ED of {count} components",
            "send application^type^subtype^encoding^data", ErrorCode.DATA_TYPE,
        )  # fmt: skip
        return
    for component, table in ENCAPSULATED.items():
        if not value.part(component) and component != 3:  # noqa: PLR2004 - a subtype is optional
            yield Hl7Fault(
                obx.place(5, component), "a component of ED is missing", "send it",
                ErrorCode.REQUIRED_FIELD,
            )  # fmt: skip
        yield from _component_faults(obx, value, component, table)
    if not _decodes(value.part(4), value.part(5)):
        yield Hl7Fault(
            obx.place(5, 5), "the data are not in the encoding that ED-4 names", "encode them so",
            ErrorCode.DATA_TYPE,
        )  # fmt: skip


def _component_faults(
    obx: ReceivedSegment, value: Value, component: int, table: str
) -> Iterator[Hl7Fault]:
    code = value.part(component)
    if code and code not in TABLES[table]:
        yield outside(obx.place(5, component), table)


def _decodes(encoding: str, data: str) -> bool:
    try:
        if encoding == "Base64":
            base64.b64decode(data, validate=True)
        elif encoding == "Hex":
            bytes.fromhex(data)
    except (binascii.Error, ValueError):
        return False
    return bool(data)


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split("."))
