"""A result as DICOM objects in the study of its images.

======================  ==================================================  ================
file                    object                                              where
======================  ==================================================  ================
secondary-capture.dcm   the overlay as a picture                            overlay sites
presentation-state.dcm  the salient cells drawn on the original             overlay sites
saliency.dcm            the map as numbers, fractional segmentation         overlay sites
report.dcm              Comprehensive 3D SR, TID 1500: what the model said  everywhere
key-object.dcm          key objects: image, overlay, report                 overlay sites
root-result.dcm         the list of all of these                            everywhere
======================  ==================================================  ================

Each kind has a series of its own, so a new model version adds one series of each and a repeat adds
nothing: the same result gives the same bytes under the same UIDs.
"""

import warnings

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset

from ai_engine.result import Outcome, TriageResult
from fhir_mappers.dicom_header import basis_of
from fhir_mappers.dicom_sr import REPORT, report
from fhir_mappers.key_object import KEY_OBJECT, key_object
from fhir_mappers.presentation_state import PRESENTATION_STATE, presentation_state
from fhir_mappers.report_context import DICOM_FILES, DisplayMode, ReportContext
from fhir_mappers.root_result import ROOT_RESULT, root_result
from fhir_mappers.saliency_segmentation import SALIENCY, saliency_segmentation
from fhir_mappers.secondary_capture import SECONDARY_CAPTURE, secondary_capture
from fhir_mappers.study import Study


def dicom_results(
    study: Study,
    outcome: Outcome,
    *,
    header: Dataset,
    picture: NDArray[np.uint8] | None,
    context: ReportContext,
) -> dict[str, bytes]:
    """Make the DICOM objects of one result.

    Parameters
    ----------
    study
        As the archive describes it.
    outcome
        What the engine said.
    header
        The analysed instance without pixel data; of a study that was not analysed, any instance.
    picture
        The overlay, **shape** ``(rows, columns, 3)``, **dtype** ``uint8``, or ``None``.
    context
        Identifiers and times; the same context gives the same bytes.

    Returns
    -------
    dict[str, bytes]
        DICOM Part 10 files by names of ``DICOM_FILES``, each after those that it refers to.

    Raises
    ------
    InvalidMessage
        If the instance is of another study, or the analysed one lacks a UID.

    References
    ----------
    IHE RAD AI Results (AIR) 6.5.3.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # pydicom's, of values that are copied as they stand
        basis = basis_of(header, study, context)
        made = {REPORT.name: report(study, outcome, basis)}
        overlay = context.site.display_mode is DisplayMode.OVERLAY
        if overlay and isinstance(outcome, TriageResult) and picture is not None:
            made[PRESENTATION_STATE.name] = presentation_state(outcome, basis)
            made[SALIENCY.name] = saliency_segmentation(outcome, basis)
            made[SECONDARY_CAPTURE.name] = secondary_capture(picture, outcome, basis)
            shown = [made[SECONDARY_CAPTURE.name], made[REPORT.name]]
            made[KEY_OBJECT.name] = key_object(outcome, shown, basis)
        parts = {name: made[name] for name in DICOM_FILES if name in made}
        root = root_result(study, outcome, parts, basis)
    return {name: each.content for name, each in (parts | {ROOT_RESULT.name: root}).items()}
