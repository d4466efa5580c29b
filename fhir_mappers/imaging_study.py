"""The study as a FHIR ImagingStudy."""

from fhir_mappers import codes
from fhir_mappers.references import References
from fhir_mappers.study import Instance, Series, Study


def imaging_study(study: Study, references: References) -> dict[str, object]:
    """Give the ImagingStudy: study UID as ``urn:oid:``, series and instance UIDs bare.

    References
    ----------
    FHIR R4 ImagingStudy; ImagingStudy.identifier ``urn:dicom:uid``.
    """
    return {
        "resourceType": "ImagingStudy",
        "id": references.id_of("ImagingStudy"),
        "identifier": [_study_uid(study.study_instance_uid)],
        "status": "available",
        "modality": [_modality(modality) for modality in study.modalities],
        "subject": references.subject,
        "started": references.started,
        "basedOn": references.order,
        "numberOfSeries": len(study.series),
        "numberOfInstances": study.number_of_instances,
        "description": study.description,
        "series": [_series(each) for each in study.series],
    }


def _study_uid(uid: str) -> dict[str, object]:
    code, display = codes.STUDY_INSTANCE_UID
    coding = {"system": codes.DCM, "code": code, "display": display}
    return {"type": {"coding": [coding]}, "system": "urn:dicom:uid", "value": f"urn:oid:{uid}"}


def _series(series: Series) -> dict[str, object]:
    return {
        "uid": series.series_instance_uid,
        "number": series.series_number if (series.series_number or -1) >= 0 else None,
        "modality": _modality(series.modality),
        "description": series.description,
        "numberOfInstances": len(series.instances),
        "bodySite": {"display": series.body_part},
        "instance": [_instance(each) for each in series.instances],
    }


def _instance(instance: Instance) -> dict[str, object]:
    number = instance.instance_number
    return {
        "uid": instance.sop_instance_uid,
        "sopClass": {"system": "urn:ietf:rfc:3986", "code": f"urn:oid:{instance.sop_class_uid}"},
        "number": number if number is not None and number >= 0 else None,
    }


def _modality(modality: str) -> dict[str, str]:
    return {"system": codes.DCM, "code": modality or "OT"}
