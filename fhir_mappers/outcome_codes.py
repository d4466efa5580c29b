"""What an OperationOutcome of another server says in codes: its free text may name a patient.

References
----------
FHIR R4 operationoutcome.html.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Any

_SEVERITIES = frozenset({"fatal", "error", "warning", "information"})
_ISSUE_TYPES = frozenset(
    {
        *("invalid", "structure", "required", "value", "invariant"),
        *("security", "login", "unknown", "expired", "forbidden", "suppressed"),
        *("processing", "not-supported", "duplicate", "multiple-matches", "not-found", "deleted"),
        *("too-long", "code-invalid", "extension", "too-costly", "business-rule", "conflict"),
        *("transient", "lock-error", "no-store", "exception", "timeout", "incomplete", "throttled"),
        "informational",
    }
)
_CODE = re.compile(r"(?=.{1,64}$)(?!.*[0-9]{5})[A-Z][A-Z0-9]*([_-][A-Z0-9]+)+")
_STEP = r"(f:)?[A-Za-z]+(\([A-Za-z]+\))?(\[[0-9]{1,4}\])?"
_PLACE = re.compile(rf"(?=.{{1,200}}$)/?{_STEP}([./]{_STEP})*")
_MOST_ISSUES, _MOST_PLACES = 5, 3


def outcome_codes(outcome: object) -> str:
    """Give the issues as codes and places, such as ``error invalid at Bundle.entry[2]``.

    Whatever is anything else is left out; empty where there is none.
    """
    issues = outcome.get("issue") if isinstance(outcome, Mapping) else None
    listed = issues if isinstance(issues, list) else []
    said = [_issue(each) for each in listed if isinstance(each, dict)]
    return "; ".join(list(dict.fromkeys(filter(None, said)))[:_MOST_ISSUES])


def _issue(issue: Mapping[str, Any]) -> str:
    severity, kind = str(issue.get("severity")), str(issue.get("code"))
    words = [
        severity if severity in _SEVERITIES else "",
        kind if kind in _ISSUE_TYPES else "",
        *_codes(issue.get("details")),
    ]
    places = [*_kept(issue.get("expression"), _PLACE), *_kept(issue.get("location"), _PLACE)]
    where = f"at {', '.join(places[:_MOST_PLACES])}" if places else ""
    return " ".join(filter(None, (*words, where)))


def _codes(details: Any) -> Iterator[str]:  # noqa: ANN401 - any JSON value
    codings = details.get("coding") if isinstance(details, dict) else None
    if isinstance(codings, list):
        yield from _kept([each.get("code") for each in codings if isinstance(each, dict)], _CODE)


def _kept(values: Any, pattern: re.Pattern[str]) -> Iterator[str]:  # noqa: ANN401 - any JSON value
    if isinstance(values, list):
        yield from (each for each in values if isinstance(each, str) and pattern.fullmatch(each))
