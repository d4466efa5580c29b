"""Errors as FHIR says them."""

from typing import Literal

from fhir_mappers.fhir_json import emitted

IssueCode = Literal[
    "exception",
    "forbidden",
    "invalid",
    "not-found",
    "not-supported",
    "required",
    "security",
    "too-long",
    "transient",
]


def operation_outcome(code: IssueCode, diagnostics: str) -> bytes:
    """Give an OperationOutcome with one error.

    Parameters
    ----------
    code
        FHIR R4 issue type.
    diagnostics
        What went wrong and what to do, without patient data.
    """
    issue = {"severity": "error", "code": code, "diagnostics": diagnostics}
    return emitted({"resourceType": "OperationOutcome", "issue": [issue]})
