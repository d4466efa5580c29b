"""The root result: one report that names every object of a result, so that none is overlooked.

References
----------
IHE RAD AI Results (AIR), root results; DICOM PS3.16 TID 1500.
"""

from collections.abc import Mapping

from pydicom.uid import Comprehensive3DSRStorage

from ai_engine.result import Outcome, TriageResult
from fhir_mappers import codes
from fhir_mappers.dicom_header import Basis, Part, Written, written
from fhir_mappers.dicom_sr import TITLE, evaluations, opening, sr_object
from fhir_mappers.sr_document import complete_document, container, referring, root
from fhir_mappers.study import Study

ROOT_RESULT = Part(
    "root-result.dcm", Comprehensive3DSRStorage, "SR", 9006, "AI result: list of its objects"
)


def root_result(
    study: Study, outcome: Outcome, parts: Mapping[str, Written], basis: Basis
) -> Written:
    """List the objects of a result, with its status.

    Parameters
    ----------
    study, outcome, basis
        Of the result.
    parts
        Every other object of it, by its file name.

    Raises
    ------
    InvalidMessage
        If there is a result but its image has no UID.
    """
    dataset = sr_object(basis, ROOT_RESULT, outcome)
    listed = [each.reference for each in parts.values()]
    objects = [referring(codes.RESULT_PARTS[n], each.reference) for n, each in parts.items()]
    if isinstance(outcome, TriageResult):
        objects.insert(0, referring(codes.ANALYSED_IMAGE, basis.image))
        listed.insert(0, basis.image)
    items = [
        *opening(study, outcome, basis.context),
        container(codes.QUALITATIVE_EVALUATIONS, evaluations(outcome, basis.context)),
        container(codes.RESULT_SET, objects),
    ]
    complete_document(dataset, root(TITLE, "1500", items), evidence=listed)
    return written(dataset, ROOT_RESULT, basis.context)
