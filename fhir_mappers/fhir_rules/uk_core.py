"""UK Core: DiagnosticReport, ImagingStudy and Device, and the DeviceReference extension.

What is mustSupport and known is there. An Encounter is not known to radcds.

References
----------
NHSDigital/FHIR-R4-UKCORE-STAGING-MAIN: UKCore-DiagnosticReport 2.6.0, UKCore-ImagingStudy 1.0.0,
UKCore-Device 1.0.0, Extension-UKCore-DeviceReference 1.1.0.
"""

from fhir_mappers import codes
from fhir_mappers.fhir_rules.rule import ProfileRule, refers_to

_DEVICE = f"extension.where(url='{codes.UK_DEVICE_REFERENCE}')"
_NOT_ANALYSED = "system.endsWith('/CodeSystem/triage') and (code='NOT-ANALYSED' or code='FAILED')"
_MEDIA_LINK = "http://hl7.org/fhir/5.0/StructureDefinition/extension-DiagnosticReport.media.link"

UK_CORE = (
    ProfileRule("uk-report-status", "DiagnosticReport", "status.exists()", "has a status"),
    ProfileRule("uk-report-category", "DiagnosticReport", "category.exists()", "has a category"),
    ProfileRule(
        "uk-report-code",
        "DiagnosticReport",
        f"code.coding.where(system='{codes.SNOMED}').exists()",
        "has a SNOMED CT code of the report (UKCore-ReportCode, preferred)",
    ),
    ProfileRule("uk-report-subject", "DiagnosticReport", "subject.exists()", "has a subject"),
    ProfileRule("uk-report-issued", "DiagnosticReport", "issued.exists()", "has a time of issue"),
    ProfileRule(
        "uk-report-result",
        "DiagnosticReport",
        f"result.exists() or conclusionCode.coding.where({_NOT_ANALYSED}).exists()",
        "names its Observations, where there are any",
    ),
    ProfileRule(
        "uk-device-reference",
        "DiagnosticReport",
        f"performer.{_DEVICE}.exists()",
        "names the AI Device among the performers",
    ),
    ProfileRule(
        "uk-device-reference-once",
        "DiagnosticReport",
        f"performer.all({_DEVICE}.count() <= 1)",
        "a performer has one DeviceReference at most",
    ),
    ProfileRule(
        "uk-device-reference-value",
        "DiagnosticReport",
        f"(performer | resultsInterpreter).{_DEVICE}"
        f".all(value.ofType(Reference).where({refers_to('Device')}).exists())",
        "a DeviceReference refers to a Device",
    ),
    ProfileRule(
        "ukcore-diag-lab-002",
        "DiagnosticReport",
        f"media.link.empty() or (extension | media.extension).where(url='{_MEDIA_LINK}').empty()",
        "has media.link or the extension of R5, and not both",
    ),
    ProfileRule("uk-study-status", "ImagingStudy", "status.exists()", "has a status"),
    ProfileRule("uk-study-subject", "ImagingStudy", "subject.exists()", "has a subject"),
    ProfileRule(
        "uk-study-modality",
        "ImagingStudy",
        "series.empty() or modality.exists()",
        "names the modalities of its series",
    ),
    ProfileRule(
        "uk-study-series",
        "ImagingStudy",
        "numberOfSeries = 0 or series.exists()",
        "names its series",
    ),
    ProfileRule("uk-device-status", "Device", "status.exists()", "has a status"),
    ProfileRule("uk-device-type", "Device", "type.exists()", "has a type"),
)
