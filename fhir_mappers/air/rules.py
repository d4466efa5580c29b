"""Every rule, the check, and the table of rules for people."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from pydicom.dataset import Dataset

from fhir_mappers.air.content import CONTENT_RULES
from fhir_mappers.air.general import GENERAL_RULES
from fhir_mappers.air.maps import MAP_RULES
from fhir_mappers.air.objects import ResultSet
from fhir_mappers.air.report import REPORT_RULES
from fhir_mappers.air.result_set import SET_RULES, unfollowed
from fhir_mappers.air.rule import Finding, Rule, Severity

RULES: tuple[Rule, ...] = (
    *SET_RULES,
    *GENERAL_RULES,
    *REPORT_RULES,
    *CONTENT_RULES,
    *MAP_RULES,
)
_MOST_OF_A_KIND = 20
_INTRODUCTION = """# Rules of the AIR check

<!-- Made by scripts/dicom_conformance.py; do not edit. -->

What [`radcds air check`](../how-to/check-ai-results.md) asks of AI result objects. An **error**
rests on the text that is named. A **warning** rests on what we believe is meant, and says so. AIR
is the supplement AI Results of IHE Radiology, trial implementation; PS3 is DICOM.
[Limits](../how-to/check-ai-results.md#limits) says what was read of them.

| rule | severity | applies to | what is true of a good object | source |
|---|---|---|---|---|
"""


@dataclass(frozen=True, slots=True)
class AirReport:
    """What was found.

    Parameters
    ----------
    findings
        Each breach of a rule, errors first.
    notes
        What could not be checked, and why; no fault of the objects.
    results, sources
        How many objects were taken for results, and for source images.
    """

    findings: tuple[Finding, ...]
    notes: tuple[str, ...]
    results: int
    sources: int

    @property
    def clean(self) -> bool:
        """Whether nothing was found. A set without an AIR result never is."""
        return not self.findings


def check(datasets: Iterable[tuple[str, Dataset]]) -> AirReport:
    """Check the objects of one or several studies together.

    Parameters
    ----------
    datasets
        A name for people and the object; the source images too, so that references can be
        followed. Objects of any content: what is broken is found, never raised.

    Returns
    -------
    AirReport
        Of one rule and object, the first 20 findings.

    References
    ----------
    IHE RAD AI Results (AIR), trial implementation; DICOM PS3.3, PS3.16. See ``RULES``.
    """
    checked = ResultSet.of(datasets)
    findings = [finding for rule in RULES for finding in _findings(rule, checked)]
    findings.sort(key=lambda each: (each.rule.severity is Severity.WARNING, each.object))
    return AirReport(
        tuple(findings), tuple(_notes(checked)), len(checked.results), len(checked.sources)
    )


def _findings(rule: Rule, checked: ResultSet) -> Iterator[Finding]:
    counts: dict[str, int] = {}
    for name, what in rule.breaches(checked):
        counts[name] = counts.get(name, 0) + 1
        if counts[name] <= _MOST_OF_A_KIND:
            yield Finding(rule, name, what)
    for name, count in counts.items():
        if count > _MOST_OF_A_KIND:
            yield Finding(rule, name, f"and {count - _MOST_OF_A_KIND} more of this kind")


def _notes(checked: ResultSet) -> Iterator[str]:
    count = len(unfollowed(checked))
    if count:
        yield (
            f"{count} instances that the results refer to were not given; give the images of the "
            "study too, and the references are followed"
        )


def rules_page() -> str:
    """Give the table of rules as Markdown: docs/reference/air-rules.md."""
    rows = (
        f"| `{each.id}` | {each.severity} | {each.applies_to} | {each.says} | {each.source} |\n"
        for each in RULES
    )
    return _INTRODUCTION + "".join(rows)
