"""The HL7 message of a stored result, in the words of the time when it was read."""

import io
from collections.abc import Callable
from datetime import timedelta

import numpy as np
from PIL import Image as Pillow

from ai_engine.result import ModelIdentity
from cds_server.errors import DeliveryRefused
from cds_server.ports import StoredResult
from fhir_mappers.errors import InvalidMessage
from fhir_mappers.hl7_dialect import Hl7Dialect
from fhir_mappers.oru_r01 import oru_r01, recalled_oru
from fhir_mappers.overlay import overlay_jpeg
from fhir_mappers.report_context import ReportContext, ReportSet, Site
from fhir_mappers.study import Study

_UNRECORDED = ModelIdentity("unrecorded", "unrecorded", "0" * 64)
"""Earlier releases did not record which model declined a study."""


def oru_of(
    dialect: Hl7Dialect,
    *,
    site: Site,
    software_version: str,
    known: Callable[[Study], Study] = lambda study: study,
) -> Callable[[StoredResult, ReportSet], bytes]:
    """Give what composes the message of a result as one receiver wants it.

    Parameters
    ----------
    dialect
        How it wants it.
    site, software_version
        Who sends it.
    known
        Gives a study with what became known of its patient since it was read.

    Returns
    -------
    Callable[[StoredResult, ReportSet], bytes]
        Raises ``DeliveryRefused`` where the version of the receiver has no such message.
    """

    def compose(result: StoredResult, artefacts: ReportSet) -> bytes:
        picture = artefacts.overlay_png if dialect.overlay_bytes else None
        context = context_of(result, site, software_version)
        study = known(result.study)
        try:
            if result.recall is not None:
                return recalled_oru(
                    study, result.outcome, context=context, recall=result.recall, dialect=dialect
                )
            return oru_r01(
                study,
                result.outcome,
                context=context,
                overlay_jpeg=_jpeg(picture, dialect.overlay_bytes) if picture else None,
                dialect=dialect,
            )
        except InvalidMessage as error:
            raise DeliveryRefused(str(error)) from error

    return compose


def context_of(result: StoredResult, site: Site, software_version: str) -> ReportContext:
    """Give the context of a result again, from what was stored of it."""
    return ReportContext(
        result_id=result.result_id,
        site=site,
        model=result.outcome.model or _UNRECORDED,
        issued=result.stored_at,
        software_version=software_version,
        model_card={},
        began=result.stored_at - timedelta(seconds=sum(result.seconds.values())),
        unread=result.unread,
        signed=result.signed,
    )


def _jpeg(png: bytes, max_bytes: int) -> bytes | None:
    with Pillow.open(io.BytesIO(png), formats=["PNG"]) as opened:
        pixels = np.asarray(opened.convert("RGB"))
    try:
        return overlay_jpeg(pixels, max_bytes=max_bytes)
    except ValueError:
        return None
