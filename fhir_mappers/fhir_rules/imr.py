"""IHE RAD Interactive Multimedia Report: a report that a radiologist signed, and its study.

Not of what the AI says alone: that has no interpreter. The Bundle of IMR is another one than ours,
which PUTs; only its report and its study are compared.

References
----------
IHE/RAD.IMR 1.1.0: imr-diagnosticreport, imr-imagingstudy.
"""

from fhir_mappers.fhir_rules.rule import ProfileRule, refers_to

_PATIENT = f"subject.where({refers_to('Patient')}).exists()"
_HUMAN = refers_to("Practitioner", "PractitionerRole")

IMR = (
    ProfileRule(
        "imr-report-status",
        "DiagnosticReport",
        "status='final' or status='amended' or status='corrected' or status='appended'",
        "is signed",
    ),
    ProfileRule("imr-report-text", "DiagnosticReport", "text.exists()", "has a narrative"),
    ProfileRule("imr-report-subject", "DiagnosticReport", _PATIENT, "is about a Patient"),
    ProfileRule("imr-report-issued", "DiagnosticReport", "issued.exists()", "has a time of issue"),
    ProfileRule(
        "imr-report-organisation",
        "DiagnosticReport",
        f"performer.where({refers_to('Organization')}).count() = 1",
        "names one Organization as its performer",
    ),
    ProfileRule(
        "imr-report-interpreter",
        "DiagnosticReport",
        f"resultsInterpreter.exists() and resultsInterpreter.all({_HUMAN})",
        "names who interpreted it, all people",
    ),
    ProfileRule(
        "imr-report-study", "DiagnosticReport", "imagingStudy.count() = 1", "names one ImagingStudy"
    ),
    ProfileRule(
        "imr-form-html",
        "DiagnosticReport",
        "presentedForm.where(contentType='text/html').exists()",
        "is there as text/html",
    ),
    ProfileRule(
        "imr-form-type", "DiagnosticReport", "presentedForm.all(contentType.exists())", "has a type"
    ),
    ProfileRule(
        "imr-form-size", "DiagnosticReport", "presentedForm.all(size.exists())", "has a size"
    ),
    ProfileRule(
        "imr-form-hash", "DiagnosticReport", "presentedForm.all(hash.exists())", "has a hash"
    ),
    ProfileRule(
        "imr-form-content",
        "DiagnosticReport",
        "presentedForm.all(data.exists() or url.exists())",
        "has data or an address",
    ),
    ProfileRule(
        "imr-report-contained", "DiagnosticReport", "contained.empty()", "contains no resource"
    ),
    ProfileRule(
        "imr-study-uid",
        "ImagingStudy",
        "identifier.where(system='urn:dicom:uid' and value.exists()).count() = 1",
        "has its Study Instance UID",
    ),
    ProfileRule("imr-study-modality", "ImagingStudy", "modality.exists()", "has a modality"),
    ProfileRule("imr-study-subject", "ImagingStudy", _PATIENT, "is about a Patient"),
    ProfileRule("imr-study-started", "ImagingStudy", "started.exists()", "says when it started"),
    ProfileRule("imr-study-series", "ImagingStudy", "series.exists()", "has a series"),
    ProfileRule(
        "imr-study-endpoint",
        "ImagingStudy",
        f"endpoint.exists() and endpoint.all({refers_to('Endpoint')})",
        "says where its images are (Endpoint)",
    ),
)
