"""One broken rule of HL7 v2, and the rules of simple values."""

import re
from dataclasses import dataclass

from fhir_mappers.hl7_inbound.hl7_message import ErrorCode, Place, Value
from fhir_mappers.hl7_inbound.identity import is_time
from fhir_mappers.hl7_tables import TABLES

_NUMBER = re.compile(r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)")
SET_ID = re.compile(r"[0-9]{1,4}")
"""SI: what numbers the segments of a group."""
_DATE = re.compile(r"[0-9]{4}(?:[0-9]{2}){0,2}")
_CLOCK = re.compile(
    r"(?:[01][0-9]|2[0-3])(?:[0-5][0-9](?:[0-5][0-9](?:\.[0-9]{1,4})?)?)?([+-][0-9]{4})?"
)


@dataclass(frozen=True, slots=True)
class Hl7Fault:
    """One rule that a message breaks.

    Parameters
    ----------
    place
        Where.
    what
        What is wrong. Never a value.
    to_do
        What to do.
    code
        Of table 0357.
    """

    place: Place
    what: str
    to_do: str
    code: ErrorCode

    def __str__(self) -> str:
        """One line for people."""
        return f"{self.place}: {self.what}; {self.to_do}"


def outside(place: Place, table: str) -> Hl7Fault:
    """Say that a code is none of a table."""
    codes = ", ".join(sorted(TABLES[table]))
    return Hl7Fault(
        place, f"not a code of table {table}", f"send one of {codes}", ErrorCode.TABLE_VALUE
    )


def wrong_type(datatype: str, value: Value) -> str:
    """Say what a value of a simple type should be; empty where it is that."""
    text = value.part(1)
    checks = {
        "NM": (_NUMBER.fullmatch(text), "send a number"),
        "SI": (SET_ID.fullmatch(text), "send a number of at most four digits"),
        "DT": (_DATE.fullmatch(text) and is_time(text), "send YYYYMMDD"),
        "TM": (_CLOCK.fullmatch(text), "send HHMMSS"),
        "TS": (is_time(text), "send YYYYMMDDHHMMSS+ZZZZ"),
        "DTM": (is_time(text), "send YYYYMMDDHHMMSS+ZZZZ"),
    }
    right, to_do = checks.get(datatype, (True, ""))
    return "" if right or not text else to_do
