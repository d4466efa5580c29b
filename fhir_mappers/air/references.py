"""What an object refers to, and where it says so."""

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum

from pydicom.dataset import Dataset

from fhir_mappers.air.access import text, walk


class Place(StrEnum):
    """Where an object refers to another."""

    TREE = "content tree"
    EVIDENCE = "evidence sequence"
    LIST = "list of referenced instances"
    USE = "dataset"


_PLACES = {
    "ContentSequence": Place.TREE,
    "ReferencedSOPSequence": Place.TREE,
    "CurrentRequestedProcedureEvidenceSequence": Place.EVIDENCE,
    "PertinentOtherEvidenceSequence": Place.EVIDENCE,
    "ReferencedSeriesSequence": Place.LIST,
    "StudiesContainingOtherReferencedInstancesSequence": Place.LIST,
}
_NO_INSTANCES = {
    "ReferencedStudySequence",
    "ReferencedPatientSequence",
    "ReferencedPerformedProcedureStepSequence",
    "ReferencedRequestSequence",
    "PredecessorDocumentsSequence",
    "IdenticalDocumentsSequence",
    "HL7StructuredDocumentReferenceSequence",
}


@dataclass(frozen=True, slots=True)
class Reference:
    """A reference to an instance; ``study`` and ``series`` are empty where it does not say."""

    place: Place
    sop_class_uid: str
    sop_instance_uid: str
    study: str
    series: str


def references_of(dataset: Dataset) -> Iterator[Reference]:
    """Give every reference to another instance; studies, requests and predecessors are none."""
    own_study = text(dataset, "StudyInstanceUID")
    for way, item in walk(dataset):
        reference = _reference(way, item, own_study)
        if reference is not None:
            yield reference


def _reference(
    way: tuple[tuple[str, Dataset], ...], item: Dataset, own_study: str
) -> Reference | None:
    uid = text(item, "ReferencedSOPInstanceUID")
    keywords = [keyword for keyword, _ in way]
    if not uid or not keywords or not _NO_INSTANCES.isdisjoint(keywords):
        return None
    place = _PLACES.get(keywords[0], Place.USE)
    named = [text(each, "StudyInstanceUID") for _, each in way]
    study = next((each for each in reversed(named) if each), "")
    series = [text(each, "SeriesInstanceUID") for _, each in way]
    return Reference(
        place,
        text(item, "ReferencedSOPClassUID"),
        uid,
        study or (own_study if place is Place.LIST else ""),
        next((each for each in reversed(series) if each), ""),
    )
