"""Everything that is published of one study, in one place."""

from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import replace

import orjson
from pydicom.dataset import Dataset

from ai_engine.image import Image
from ai_engine.result import Outcome, TriageResult
from fhir_mappers.cds_card import card_response
from fhir_mappers.dicom_results import dicom_results
from fhir_mappers.oru_r01 import OVERLAY_JPEG_BYTES, oru_r01
from fhir_mappers.overlay import (
    Pixels,
    original_png,
    overlay_jpeg,
    overlay_png,
    overlay_rgb,
    shrunk,
)
from fhir_mappers.report_context import DisplayMode, ReportContext, ReportSet
from fhir_mappers.study import Study
from fhir_mappers.transaction import transaction_bundle
from fhir_mappers.wording import explained_finding, model_line, probability_line


def report_set(
    study: Study,
    outcome: Outcome,
    *,
    context: ReportContext,
    source: Dataset | None,
    image: Image | None,
) -> ReportSet:
    """Make every artefact of one study.

    Parameters
    ----------
    study
        As the archive described it.
    outcome
        What the engine said.
    context
        Identifiers and times; the same context gives the same bytes.
    source
        Header of the analysed instance; of a study that was not analysed, of one of its instances.
        ``None`` where nothing is known of the study: then there is no DICOM object.
    image
        Pixels of the analysed instance; ``None`` where nothing was analysed.

    Returns
    -------
    ReportSet
        Without any location, in any artefact, where the site is ``triage_only``.

    Raises
    ------
    InvalidMessage
        If an artefact would break a rule of its format.
    """
    if image is None:
        return _without_picture(study, outcome, context, source)
    grey = shrunk(image)
    with ThreadPoolExecutor(1) as aside:  # compressing lets the other work go on
        original = aside.submit(original_png, grey)
        if isinstance(outcome, TriageResult) and context.site.display_mode is DisplayMode.OVERLAY:
            made = _with_picture(study, outcome, context, source, grey, aside)
        else:
            made = _without_picture(study, outcome, context, source)
        return replace(made, original_png=original.result())


def _with_picture(
    study: Study,
    outcome: TriageResult,
    context: ReportContext,
    source: Dataset | None,
    grey: Pixels,
    aside: Executor,
) -> ReportSet:
    finding = explained_finding(outcome)
    saliency = outcome.saliency_of(finding.label)
    caption = [probability_line(finding), model_line(context)]
    rgb = overlay_rgb(grey, saliency, caption=caption)
    png = aside.submit(overlay_png, rgb)
    jpeg = overlay_jpeg(rgb, max_bytes=OVERLAY_JPEG_BYTES)
    return ReportSet(
        bundle=transaction_bundle(study, outcome, context=context, overlay_jpeg=jpeg),
        oru=oru_r01(study, outcome, context=context, overlay_jpeg=jpeg),
        card=_card(study, outcome, context),
        dicom=_dicom(study, outcome, context, source, rgb),
        overlay_png=png.result(),
    )


def _without_picture(
    study: Study, outcome: Outcome, context: ReportContext, source: Dataset | None
) -> ReportSet:
    return ReportSet(
        bundle=transaction_bundle(study, outcome, context=context, overlay_jpeg=None),
        oru=oru_r01(study, outcome, context=context, overlay_jpeg=None),
        card=_card(study, outcome, context),
        dicom=_dicom(study, outcome, context, source, None),
    )


def _dicom(
    study: Study,
    outcome: Outcome,
    context: ReportContext,
    source: Dataset | None,
    picture: Pixels | None,
) -> dict[str, bytes]:
    if source is None:
        return {}
    return dicom_results(study, outcome, header=source, picture=picture, context=context)


def _card(study: Study, outcome: Outcome, context: ReportContext) -> bytes:
    return orjson.dumps(card_response(study, outcome, context=context), option=orjson.OPT_INDENT_2)
