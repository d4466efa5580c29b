"""Which images are read, and what is said of those that are not."""

import random
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pydicom
import pytest
from conftest import sample
from hypothesis import given
from hypothesis import strategies as st
from pydicom.dataset import Dataset
from pydicom.uid import (
    ComputedRadiographyImageStorage,
    CTImageStorage,
    DigitalXRayImageStorageForProcessing,
    EnhancedCTImageStorage,
    ParametricMapStorage,
    SecondaryCaptureImageStorage,
)
from studies import STUDY_UID, chest_instance, chest_study

from ai_engine.image import View
from ai_engine.result import Reason
from fhir_mappers.acquisition import subject, view
from fhir_mappers.candidate import Candidate, PassedOver
from fhir_mappers.ct_series import MOST_SLICES
from fhir_mappers.dicom_study import study_of
from fhir_mappers.radiographs import MOST_RADIOGRAPHS
from fhir_mappers.selection import Selection, select_images
from fhir_mappers.study import Instance, Plane, Series

Header = Mapping[str, Any]
CT = frozenset({"CT"})
AXIAL = (1, 0, 0, 0, 1, 0)
CORONAL = (1, 0, 0, 0, 0, -1)


def item(**values: object) -> Dataset:
    dataset = Dataset()
    for keyword, value in values.items():
        setattr(dataset, keyword, value)
    return dataset


def x_ray(number: int, series: int = 1, **changes: object) -> Header:
    """A chest radiograph; its UID ends in series and number."""
    values: dict[str, object] = {
        "PixelData": None,
        "StudyDescription": "",
        "SOPInstanceUID": f"{STUDY_UID}.{series}.{number}",
        "SeriesInstanceUID": f"{STUDY_UID}.{series}",
        "SeriesNumber": series,
        "InstanceNumber": number,
        "AcquisitionDate": "20261120",
        "AcquisitionTime": f"09{series % 60:02}{number % 60:02}",
        "AcquisitionNumber": number,
    }
    return chest_instance(**{**values, **changes}).to_json_dict()


def axial(number: int, series: int = 1, **changes: object) -> Header:
    """A CT slice of a series with 5 mm between slices."""
    values: dict[str, object] = {
        "Modality": "CT",
        "SOPClassUID": CTImageStorage,
        "ImageType": ["ORIGINAL", "PRIMARY", "AXIAL"],
        "ViewPosition": None,
        "PresentationIntentType": None,
        "ImageOrientationPatient": list(AXIAL),
        "ImagePositionPatient": [-150, -150, number * 5.0],
        "PixelSpacing": [0.7, 0.7],
        "FrameOfReferenceUID": f"{STUDY_UID}.99",
        "AcquisitionNumber": 1,
        "ConvolutionKernel": "STANDARD",
    }
    return x_ray(number, series, **{**values, **changes})


def stack(length: int, series: int = 1, **changes: object) -> list[Header]:
    return [axial(number, series, **changes) for number in range(1, length + 1)]


def key_object(title: str, *rejected: str) -> Header:
    """A key object selection of the study that names some of its instances."""
    named = [item(ReferencedSOPInstanceUID=f"{STUDY_UID}.{uid}") for uid in rejected]
    in_series = item(ReferencedSeriesSequence=[item(ReferencedSOPSequence=named)])
    return x_ray(
        1,
        series=90,
        Modality="KO",
        Rows=None,
        Columns=None,
        ConceptNameCodeSequence=[item(CodeValue=title, CodingSchemeDesignator="DCM")],
        CurrentRequestedProcedureEvidenceSequence=[in_series],
    )


def own_result(number: int, modality: str, sop_class: str, **changes: object) -> Header:
    """What radcds itself sends to the archive, in one of its forms."""
    values = {"Manufacturer": "radcds", "ImageType": ["DERIVED", "SECONDARY"], **changes}
    return x_ray(number, series=80, Modality=modality, SOPClassUID=sop_class, **values)


def selected(objects: Sequence[Header], modalities: frozenset[str] | None = None) -> Selection:
    study = study_of(objects, timezone="UTC")
    return select_images(study, modalities=modalities) if modalities else select_images(study)


def short(uid: str) -> str:
    return uid.removeprefix(f"{STUDY_UID}.")


@dataclass(frozen=True)
class Case:
    """A study, what is read of it in order, and why the rest is not: UIDs by series and number."""

    fact: str
    objects: Sequence[Header]
    read: Sequence[str] = ()
    left_out: Mapping[str, Reason | PassedOver] | None = None
    modalities: frozenset[str] = frozenset({"CR", "DX"})


RADIOGRAPHS = [
    Case("a PA chest radiograph is read", [x_ray(1)], ["1.1"]),
    Case("an AP bedside film is read", [x_ray(1, ViewPosition="AP")], ["1.1"]),
    Case(
        "a computed radiograph is read as a digital one",
        [x_ray(1, Modality="CR", SOPClassUID=ComputedRadiographyImageStorage)],
        ["1.1"],
    ),
    Case(
        "of PA and lateral the PA is read",
        [x_ray(1, ViewPosition="LL"), x_ray(2)],
        ["1.2"],
        {"1.1": Reason.LATERAL_VIEW},
    ),
    Case(
        "a lateral that only its view code names is left out",
        [x_ray(1, ViewPosition="", ViewCodeSequence=[item(CodeValue="399067008")])],
        [],
        {"1.1": Reason.LATERAL_VIEW},
    ),
    Case(
        "series that are called PA and LAT are told apart in a study called PA AND LATERAL",
        [
            x_ray(
                1, n, ViewPosition="", SeriesDescription=name, StudyDescription="CXR PA AND LATERAL"
            )
            for n, name in ((1, "CHEST_PA"), (2, "CHEST_LAT"))
        ],
        ["1.1"],
        {"2.1": Reason.LATERAL_VIEW},
    ),
    Case(
        "a view that nothing names is read after the named ones, for the scope gate to judge",
        [x_ray(9, ViewPosition=""), x_ray(1, ViewPosition="AP")],
        ["1.1", "1.9"],
    ),
    Case(
        "a view that only a study called PA AND LATERAL names is nobody's view",
        [
            x_ray(1, StudyDescription="CXR PA AND LATERAL"),
            x_ray(2, StudyDescription="CXR PA AND LATERAL", ViewPosition=""),
        ],
        ["1.1", "1.2"],
    ),
    Case(
        "view codes that contradict each other name no frontal view",
        [
            x_ray(
                1,
                ViewPosition="",
                ViewCodeSequence=[item(CodeValue="272479007"), item(CodeValue="399067008")],
            )
        ],
        [],
        {"1.1": Reason.UNKNOWN_VIEW},
    ),
    Case(
        "an oblique view is left out",
        [x_ray(1), x_ray(2, ViewPosition="LLO")],
        ["1.1"],
        {"1.2": Reason.UNKNOWN_VIEW},
    ),
    Case(
        "a hand is no chest",
        [x_ray(1, BodyPartExamined="HAND")],
        [],
        {"1.1": Reason.NON_CHEST},
    ),
    Case(
        "a lateral hand is first of all no chest",
        [x_ray(1, BodyPartExamined="HAND", ViewPosition="LL", BurnedInAnnotation="YES")],
        [],
        {"1.1": Reason.NON_CHEST},
    ),
    Case(
        "of a trauma study the chest is read",
        [x_ray(1, 1, BodyPartExamined="PELVIS"), x_ray(1, 2, BodyPartExamined="THORAX")],
        ["2.1"],
        {"1.1": Reason.NON_CHEST},
    ),
    Case(
        "a chest that only its coded region names is read",
        [x_ray(1, BodyPartExamined="", AnatomicRegionSequence=[item(CodeValue="51185008")])],
        ["1.1"],
    ),
    Case(
        "a knee that only its coded region names is left out",
        [x_ray(1, BodyPartExamined="", AnatomicRegionSequence=[item(CodeValue="72696002")])],
        [],
        {"1.1": Reason.NON_CHEST},
    ),
    Case(
        "a body part that nothing names is for the scope gate to judge",
        [x_ray(1, BodyPartExamined="")],
        ["1.1"],
    ),
    Case(
        "a raw image gives way to the one for presentation, although that is derived from it",
        [
            x_ray(1, PresentationIntentType="FOR PROCESSING", AcquisitionTime="0901"),
            x_ray(2, ImageType=["DERIVED", "PRIMARY"], AcquisitionTime="0901", AcquisitionNumber=1),
        ],
        ["1.2"],
        {"1.1": Reason.POOR_QUALITY},
    ),
    Case(
        "a raw image that only its SOP class names is left out",
        [x_ray(1, SOPClassUID=DigitalXRayImageStorageForProcessing, PresentationIntentType=None)],
        [],
        {"1.1": Reason.POOR_QUALITY},
    ),
    Case(
        "a processed copy of an exposure gives way to its original",
        [
            x_ray(1, IrradiationEventUID="1.2.3"),
            x_ray(2, ImageType=["DERIVED", "PRIMARY"], IrradiationEventUID="1.2.3"),
        ],
        ["1.1"],
        {"1.2": PassedOver.SAME_EXPOSURE},
    ),
    Case(
        "without an irradiation event the same moment tells the processed copy",
        [
            x_ray(1, AcquisitionTime="090101.25", AcquisitionNumber=1),
            x_ray(
                2,
                AcquisitionTime="090101.250",
                AcquisitionNumber=1,
                ImageType=["DERIVED", "PRIMARY"],
            ),
        ],
        ["1.1"],
        {"1.2": PassedOver.SAME_EXPOSURE},
    ),
    Case(
        "two exposures of one moment are two exposures where their irradiation events say so",
        [
            x_ray(1, AcquisitionTime="0901", AcquisitionNumber=1, IrradiationEventUID="1.2.3"),
            x_ray(
                2,
                AcquisitionTime="0901",
                AcquisitionNumber=1,
                IrradiationEventUID="1.2.4",
                ImageType=["DERIVED", "PRIMARY"],
            ),
        ],
        ["1.2", "1.1"],
    ),
    Case(
        "a repeated view is read in all its takes, the latest first",
        [x_ray(1), x_ray(2), x_ray(3)],
        ["1.3", "1.2", "1.1"],
    ),
    Case(
        "a repeat at another hour comes first although its number is lower",
        [x_ray(1, AcquisitionTime="2301"), x_ray(2, AcquisitionTime="0801")],
        ["1.1", "1.2"],
    ),
    Case(
        "without a time the higher number is taken for the later",
        [x_ray(n, AcquisitionDate=None, AcquisitionTime=None) for n in (1, 2)],
        ["1.2", "1.1"],
    ),
    Case(
        "a bedside series of more takes than are read leaves the earliest out",
        [x_ray(n) for n in range(1, MOST_RADIOGRAPHS + 3)],
        [f"1.{n}" for n in range(MOST_RADIOGRAPHS + 2, 2, -1)],
        {"1.1": PassedOver.BEYOND_LIMIT, "1.2": PassedOver.BEYOND_LIMIT},
    ),
    Case(
        "an instance that the archive lists twice is read once",
        [x_ray(1), x_ray(1)],
        ["1.1"],
        {"1.1": PassedOver.DUPLICATE},
    ),
    Case(
        "an instance that is listed in two series is read where it can be",
        [x_ray(1, ViewPosition="LL"), x_ray(1, 2, SOPInstanceUID=f"{STUDY_UID}.1.1")],
        ["1.1"],
        {"1.1": PassedOver.DUPLICATE},
    ),
    Case(
        "two images of one day are two exposures where the header gives no time",
        [
            x_ray(1, AcquisitionTime=None, AcquisitionNumber=1),
            x_ray(2, AcquisitionTime=None, AcquisitionNumber=1, ImageType=["DERIVED", "PRIMARY"]),
        ],
        ["1.2", "1.1"],
    ),
    Case(
        "fluoroscopy frames are left out",
        [x_ray(1, NumberOfFrames=40)],
        [],
        {"1.1": Reason.MULTI_FRAME},
    ),
    Case(
        "a derived secondary image is left out",
        [x_ray(1), x_ray(2, ImageType=["DERIVED", "SECONDARY"])],
        ["1.1"],
        {"1.2": Reason.POOR_QUALITY},
    ),
    Case(
        "an image with words burned in is left out",
        [x_ray(1, BurnedInAnnotation="YES"), x_ray(2, BurnedInAnnotation="NO")],
        ["1.2"],
        {"1.1": Reason.POOR_QUALITY},
    ),
    Case(
        "a phantom is left out",
        [x_ray(1, QualityControlImage="YES")],
        [],
        {"1.1": Reason.POOR_QUALITY},
    ),
    Case(
        "a colour picture is left out",
        [x_ray(1, SamplesPerPixel=3)],
        [],
        {"1.1": Reason.POOR_QUALITY},
    ),
    Case(
        "a screen save that calls itself a radiograph is left out",
        [x_ray(1), x_ray(2, SOPClassUID=SecondaryCaptureImageStorage)],
        ["1.1"],
        {"1.2": Reason.NO_IMAGE},
    ),
    Case(
        "an image that the technologist rejected is left out",
        [x_ray(1), x_ray(2), key_object("113001", "1.2")],
        ["1.1"],
        {"1.2": Reason.POOR_QUALITY, "90.1": Reason.NO_IMAGE},
    ),
    Case(
        "an image under the worklist entry of another patient is left out",
        [x_ray(1), key_object("113038", "1.1")],
        [],
        {"1.1": Reason.POOR_QUALITY, "90.1": Reason.NO_IMAGE},
    ),
    Case(
        "a key image is not a rejected one",
        [x_ray(1), key_object("113000", "1.1")],
        ["1.1"],
        {"90.1": Reason.NO_IMAGE},
    ),
    Case(
        "a report that is listed before the image does not hide it",
        [x_ray(1, Modality="SR", Rows=None, Columns=None), x_ray(2)],
        ["1.2"],
        {"1.1": Reason.NO_IMAGE},
    ),
    Case(
        "what has no rows and columns is no image, whatever its modality",
        [x_ray(1, Rows=None)],
        [],
        {"1.1": Reason.NO_IMAGE},
    ),
    Case(
        "an object of modality OT is no image, whatever its class",
        [x_ray(1, Modality="OT")],
        [],
        {"1.1": Reason.NO_IMAGE},
    ),
    Case(
        "our own results are never read again",
        [
            x_ray(1),
            own_result(1, "OT", SecondaryCaptureImageStorage, BurnedInAnnotation="YES"),
            own_result(2, "SR", "1.2.840.10008.5.1.4.1.1.88.34", Rows=None),
            own_result(3, "PR", "1.2.840.10008.5.1.4.1.1.11.1", Rows=None),
            own_result(4, "KO", "1.2.840.10008.5.1.4.1.1.88.59", Rows=None),
            own_result(5, "SEG", "1.2.840.10008.5.1.4.1.1.66.4"),
            own_result(6, "DX", SecondaryCaptureImageStorage),
            own_result(7, "DX", ParametricMapStorage),
        ],
        ["1.1"],
        {f"80.{number}": Reason.NO_IMAGE for number in range(1, 8)},
    ),
    Case(
        "in a series that mixes modalities each image has its own",
        [x_ray(1, Modality="SR", Rows=None), x_ray(2, Modality="DX"), x_ray(3, Modality="MR")],
        ["1.2"],
        {"1.1": Reason.NO_IMAGE, "1.3": Reason.UNSUPPORTED_MODALITY},
    ),
    Case(
        "beside a CT the radiograph is read",
        [*stack(2, series=2), x_ray(1)],
        ["1.1"],
        {"2.1": Reason.UNSUPPORTED_MODALITY, "2.2": Reason.UNSUPPORTED_MODALITY},
    ),
]

SCOUT = axial(1, 9, ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"])


def numbers(series: int, length: int) -> list[str]:
    return [f"{series}.{number}" for number in range(1, length + 1)]


IN_ORDER = numbers(1, 12)


def all_of(series: int, length: int, why: Reason | PassedOver) -> dict[str, Reason | PassedOver]:
    return dict.fromkeys(numbers(series, length), why)


OTHER = PassedOver.OTHER_SERIES
CTS = [
    Case("a CT is read from feet to head", stack(12)[::-1], IN_ORDER, {}, CT),
    Case(
        "slices lie where their position says, not their number",
        [axial(n, ImagePositionPatient=[0, 0, -n]) for n in range(1, 13)],
        IN_ORDER[::-1],
        {},
        CT,
    ),
    Case(
        "a tilted gantry is stacked along the tilted normal",
        [
            axial(
                n,
                ImageOrientationPatient=[1, 0, 0, 0, 0.9396926, -0.3420201],
                ImagePositionPatient=[0, 93.96926 * (n % 2), 5.0 * n - 34.20201 * (n % 2)],
            )
            for n in range(1, 13)
        ],
        IN_ORDER,
        {},
        CT,
    ),
    Case(
        "a localizer is no slice",
        [SCOUT, *stack(12)],
        IN_ORDER,
        {"9.1": Reason.POOR_QUALITY},
        CT,
    ),
    Case(
        "a study with only a localizer is declined",
        [SCOUT],
        [],
        {"9.1": Reason.POOR_QUALITY},
        CT,
    ),
    Case(
        "a reformation is left out although it is thinner",
        [*stack(12), *stack(12, 2, ImageType=["DERIVED", "SECONDARY", "MPR"])],
        IN_ORDER,
        all_of(2, 12, Reason.POOR_QUALITY),
        CT,
    ),
    Case(
        "a secondary image is no slice although it calls itself original",
        [*stack(12), axial(1, 2, ImageType=["ORIGINAL", "SECONDARY", "AXIAL"])],
        IN_ORDER,
        {"2.1": Reason.POOR_QUALITY},
        CT,
    ),
    Case(
        "a projection that calls itself primary is left out",
        [*stack(12), *stack(12, 2, ImageType=["DERIVED", "PRIMARY", "AXIAL", "CT_SOM5 MIP"])],
        IN_ORDER,
        all_of(2, 12, Reason.POOR_QUALITY),
        CT,
    ),
    Case(
        "coronal slices that call themselves axial are left out",
        [*stack(12), *stack(12, 2, ImageOrientationPatient=list(CORONAL))],
        IN_ORDER,
        all_of(2, 12, Reason.POOR_QUALITY),
        CT,
    ),
    Case(
        "a dose screen is no slice",
        [*stack(12), axial(1, 99, SOPClassUID=SecondaryCaptureImageStorage)],
        IN_ORDER,
        {"99.1": Reason.NO_IMAGE},
        CT,
    ),
    Case(
        "the chest is read, not the head",
        [*stack(12), *stack(30, 2, BodyPartExamined="HEAD")],
        IN_ORDER,
        all_of(2, 30, OTHER),
        CT,
    ),
    Case(
        "a soft kernel is preferred to lung and bone",
        [
            *stack(12, 2, ConvolutionKernel="LUNG"),
            *stack(12, 3, ConvolutionKernel=["Bl57d", "3"]),
            *stack(12, 4, ConvolutionKernel="B70f"),
            *stack(12, 5, ConvolutionKernel="FC51"),
            *stack(12, 6, ConvolutionKernel=["Br40d", "3"]),
        ],
        numbers(6, 12),
        {k: v for n in (2, 3, 4, 5) for k, v in all_of(n, 12, OTHER).items()},
        CT,
    ),
    Case(
        "where the header names no kernel the description says which it is",
        [
            *stack(12, ConvolutionKernel=None, SeriesDescription="Lung 1.0"),
            *stack(12, 2, ConvolutionKernel=None, SeriesDescription="Mediastinum 1.0"),
        ],
        numbers(2, 12),
        all_of(1, 12, OTHER),
        CT,
    ),
    Case(
        "acquired slices are preferred to derived ones",
        [*stack(12, ImageType=["DERIVED", "PRIMARY", "AXIAL"]), *stack(12, 2)],
        numbers(2, 12),
        all_of(1, 12, OTHER),
        CT,
    ),
    Case(
        "derived slices are read where there are no others",
        stack(12, ImageType=["DERIVED", "PRIMARY", "AXIAL"]),
        IN_ORDER,
        {},
        CT,
    ),
    Case(
        "of two series that are alike the one with more slices is read",
        [*stack(11), *stack(12, 2)],
        numbers(2, 12),
        all_of(1, 11, OTHER),
        CT,
    ),
    Case(
        "of two series that are alike in everything the first is read",
        [*stack(12, 2), *stack(12)],
        IN_ORDER,
        all_of(2, 12, OTHER),
        CT,
    ),
    Case(
        "a series whose order in space is known is preferred",
        [*stack(20, ImagePositionPatient=None), *stack(12, 2)],
        numbers(2, 12),
        all_of(1, 20, OTHER),
        CT,
    ),
    Case(
        "a single slice of the chest does not stand for a volume of an unnamed part",
        [axial(1), *stack(12, 2, BodyPartExamined="")],
        numbers(2, 12),
        {"1.1": OTHER},
        CT,
    ),
    Case(
        "a whole chest in a lung kernel is better than a part of it in a soft one",
        [
            *stack(12, ConvolutionKernel="B60s"),
            *[axial(n, 2, ImagePositionPatient=[0, 0, 2 * n]) for n in range(1, 11)],
        ],
        IN_ORDER,
        all_of(2, 10, OTHER),
        CT,
    ),
    Case(
        "of two reconstructions the thinner is read",
        [
            *stack(12),
            *[axial(n, 2, ImagePositionPatient=[0, 0, 4.5 * n]) for n in range(1, 12)],
        ],
        numbers(2, 11),
        all_of(1, 12, OTHER),
        CT,
    ),
    Case(
        "a thin series of a part does not stand for the whole",
        [
            *stack(12),
            *[axial(n, 2, ImagePositionPatient=[0, 0, 0.5 * n]) for n in range(1, 21)],
        ],
        IN_ORDER,
        all_of(2, 20, OTHER),
        CT,
    ),
    Case(
        "bolus tracking at one place is no volume",
        [*stack(12), *[axial(n, 2, ImagePositionPatient=[0, 0, 9]) for n in range(1, 16)]],
        IN_ORDER,
        all_of(2, 15, OTHER),
        CT,
    ),
    Case(
        "of two acquisitions at the same places the larger is read",
        [
            *stack(12),
            *[
                axial(50 + n, AcquisitionNumber=2, ImagePositionPatient=[-150, -150, 5.0 * n])
                for n in (3, 4)
            ],
        ],
        IN_ORDER,
        {"1.53": PassedOver.SAME_PLACE, "1.54": PassedOver.SAME_PLACE},
        CT,
    ),
    Case(
        "of two slices of one acquisition at one place the later is read",
        [*stack(12), axial(40, ImagePositionPatient=[-150, -150, 15.01])],
        ["1.1", "1.2", "1.40", *IN_ORDER[3:]],
        {"1.3": PassedOver.SAME_PLACE},
        CT,
    ),
    Case(
        "a slice of another frame of reference does not fit",
        [*stack(12), axial(20, FrameOfReferenceUID="1.2.3")],
        IN_ORDER,
        {"1.20": PassedOver.OTHER_STACK},
        CT,
    ),
    Case(
        "a slice of another matrix does not fit",
        [*stack(12), axial(20, Rows=512)],
        IN_ORDER,
        {"1.20": PassedOver.OTHER_STACK},
        CT,
    ),
    Case(
        "a slice of another field of view does not fit",
        [*stack(12), axial(20, PixelSpacing=[0.4, 0.4])],
        IN_ORDER,
        {"1.20": PassedOver.OTHER_STACK},
        CT,
    ),
    Case(
        "a slice turned against the others does not fit",
        [
            *stack(12),
            axial(20, ImageOrientationPatient=[1, 0, 0, 0, 0.9396926, -0.3420201]),
            axial(21, ImageOrientationPatient=[-1, 0, 0, 0, -1, 0]),
        ],
        IN_ORDER,
        {"1.20": PassedOver.OTHER_STACK, "1.21": PassedOver.OTHER_STACK},
        CT,
    ),
    Case(
        "slices without a place are read by number",
        [axial(n, ImagePositionPatient=None) for n in range(12, 0, -1)],
        IN_ORDER,
        {},
        CT,
    ),
    Case("a lone slice is read where there is nothing better", [axial(1)], ["1.1"], {}, CT),
    Case(
        "a lone slice is not read where there is a volume",
        [axial(1, 2), *stack(12)],
        IN_ORDER,
        {"2.1": OTHER},
        CT,
    ),
    Case(
        "an enhanced CT is read whole",
        [axial(1, SOPClassUID=EnhancedCTImageStorage, NumberOfFrames=80), axial(1, 2)],
        ["1.1"],
        {"2.1": OTHER},
        CT,
    ),
    Case(
        "of two enhanced objects in one series one is read",
        [axial(n, SOPClassUID=EnhancedCTImageStorage, NumberOfFrames=40 * n) for n in (1, 2)],
        ["1.2"],
        {"1.1": PassedOver.OTHER_STACK},
        CT,
    ),
    Case(
        "a perfusion map is no volume",
        [axial(1, NumberOfFrames=80, ImageType=["DERIVED", "PRIMARY", "PERFUSION", "RCBF"])],
        [],
        {"1.1": Reason.POOR_QUALITY},
        CT,
    ),
    Case(
        "a CT model does not read radiographs",
        [x_ray(1)],
        [],
        {"1.1": Reason.UNSUPPORTED_MODALITY},
        CT,
    ),
    Case(
        "a model of both reads the volume",
        [x_ray(1, 2), *stack(12)],
        IN_ORDER,
        {"2.1": OTHER},
        frozenset({"CR", "DX", "CT"}),
    ),
]


@pytest.mark.parametrize("case", RADIOGRAPHS + CTS, ids=lambda case: case.fact)
def test_what_is_read_of_a_study(case: Case) -> None:
    selection = selected(case.objects, case.modalities)
    assert [short(each.sop_instance_uid) for each in selection.chosen] == list(case.read)
    left_out = {short(each.sop_instance_uid): each.reason for each in selection.excluded}
    assert left_out == dict(case.left_out or {})
    assert all(each.detail.endswith(".") for each in selection.excluded)


@pytest.mark.parametrize(
    ("objects", "reason"),
    [
        ([x_ray(1, ViewPosition="LL"), x_ray(1, 2, BodyPartExamined="HAND")], Reason.LATERAL_VIEW),
        ([x_ray(1, BodyPartExamined="HAND"), own_result(1, "OT", "1.2")], Reason.NON_CHEST),
        ([x_ray(1, QualityControlImage="YES"), axial(1, 2)], Reason.POOR_QUALITY),
        ([axial(1), own_result(1, "SR", "1.2", Rows=None)], Reason.UNSUPPORTED_MODALITY),
        ([x_ray(1, Modality="SR", Rows=None)], Reason.NO_IMAGE),
        ([x_ray(1, SOPClassUID=SecondaryCaptureImageStorage)], Reason.NO_IMAGE),
    ],
)
def test_a_study_without_a_readable_image_says_the_closest_reason(
    objects: Sequence[Header], reason: Reason
) -> None:
    selection = selected(objects)
    assert not selection.chosen
    assert selection.declined().reason is reason


def test_a_study_that_holds_nothing_has_no_image() -> None:
    selection = select_images(chest_study(series=()))
    assert selection == Selection((), ())
    assert selection.declined().reason is Reason.NO_IMAGE


@pytest.mark.parametrize(
    ("modality", "body_part", "words"),
    [
        ("CT", "HEAD", "CT (head); the model reads chest radiographs."),
        ("MR", "", "MR; the model reads chest radiographs."),
        ("X1", "DOE 1970", "unknown; the model reads chest radiographs."),
        (
            "CT",
            "\N{LATIN CAPITAL LETTER E WITH ACUTE}PAULE",
            "CT; the model reads chest radiographs.",
        ),
        ("CT", "A" * 17, "CT; the model reads chest radiographs."),
        ("", "", "unknown; the model reads chest radiographs."),
    ],
)
def test_a_sentence_repeats_only_words_of_letters(
    modality: str, body_part: str, words: str
) -> None:
    header = {
        **x_ray(1),
        "00080060": {"vr": "CS", "Value": [modality]},
        "00180015": {"vr": "CS", "Value": [body_part]},
    }
    selection = selected([header])
    assert selection.declined().detail == f"The image is of modality {words}"


def test_missing_slices_are_noted_and_do_not_stop_the_reading() -> None:
    selection = selected([each for n, each in enumerate(stack(20)) if n not in {7, 8}], CT)
    assert len(selection.chosen) == 18
    assert selection.notes == ("Gaps between slices: 1, the widest 15.0 mm where 5.0 mm is usual.",)


def test_a_whole_series_needs_no_note() -> None:
    assert selected(stack(20), CT).notes == ()


def test_few_slices_and_slices_without_a_place_are_noted() -> None:
    selection = selected([axial(1, ImagePositionPatient=["0", "0", "1e9"])], CT)
    assert len(selection.notes) == 2
    assert "1, fewer than 10" in selection.notes[0]
    assert "by number" in selection.notes[1]


def thin(series: int, length: int, distance_mm: float) -> Series:
    slices = [
        Instance(
            f"1.{series}.{n}", CTImageStorage, n, 512, 512, 1, (), "", plane=at(distance_mm * n)
        )
        for n in range(1, length + 1)
    ]
    return Series(f"1.{series}", "CT", "CHEST", "", series, tuple(slices))


def test_a_series_of_too_many_slices_is_thinned_evenly_and_says_so() -> None:
    study = chest_study(series=(thin(1, MOST_SLICES + 2, 0.3),))
    selection = select_images(study, modalities=CT)
    read = [int(each.sop_instance_uid.rpartition(".")[2]) for each in selection.chosen]
    assert read == list(range(1, MOST_SLICES + 3, 2))
    assert {each.reason for each in selection.excluded} == {PassedOver.BEYOND_LIMIT}
    assert selection.notes == ("One slice of every 2 is read.",)


def test_a_series_that_can_be_read_whole_is_preferred_to_one_that_must_be_thinned() -> None:
    study = chest_study(series=(thin(1, MOST_SLICES + 2, 0.3), thin(2, 510, 0.6)))
    selection = select_images(study, modalities=CT)
    assert {each.series_instance_uid for each in selection.chosen} == {"1.2"}
    assert selection.notes == ()


def at(z_mm: float) -> Plane:
    return Plane("1.2", (0.0, 0.0, z_mm), tuple(map(float, AXIAL)), (0.7, 0.7))


@pytest.mark.parametrize(
    ("name", "modalities", "read"),
    [
        ("RG1_UNCR.dcm", None, 1),
        ("RG3_UNCR.dcm", None, Reason.NON_CHEST),
        ("693_UNCR.dcm", None, Reason.UNSUPPORTED_MODALITY),
        ("693_UNCR.dcm", CT, 1),
        ("CT_small.dcm", CT, 1),
        ("explicit_VR-UN.dcm", CT, 1),
        ("eCT_Supplemental.dcm", CT, Reason.POOR_QUALITY),
        ("mlut_18.dcm", None, Reason.NO_IMAGE),
        ("MR_small.dcm", None, Reason.UNSUPPORTED_MODALITY),
    ],
)
def test_real_images_are_read_or_left_out_for_what_they_are(
    name: str, modalities: frozenset[str] | None, read: int | Reason
) -> None:
    header = pydicom.dcmread(sample(name), stop_before_pixels=True)
    selection = selected([header.to_json_dict()], modalities)
    if isinstance(read, Reason):
        assert selection.declined().reason is read
    else:
        assert len(selection.chosen) == read


parts = st.sampled_from(["", "CHEST", "HAND", "THORAX"])
words = st.sampled_from(["", "Chest PA", "lat", "AP", "CXR PA AND LATERAL", "CHEST_PA", "hand"])
codes = st.sampled_from(["51185008", "72696002", "399067008", "272479007", "399348003", "1"])


@given(
    st.fixed_dictionaries(
        {
            "Modality": st.sampled_from(["CR", "DX"]),
            "BodyPartExamined": parts,
            "ViewPosition": st.sampled_from(["", "PA", "AP", "LL", "RAO"]),
            "SeriesDescription": words,
            "StudyDescription": words,
            "ProtocolName": words,
            "AnatomicRegionSequence": st.lists(codes.map(lambda c: item(CodeValue=c)), max_size=2),
            "ViewCodeSequence": st.lists(codes.map(lambda c: item(CodeValue=c)), max_size=2),
        }
    )
)
def test_the_selection_and_the_scope_gate_read_the_same_of_a_header(values: dict[str, Any]) -> None:
    dataset = chest_instance(PixelData=None, **values)
    study = study_of([dataset.to_json_dict()], timezone="UTC")
    (series,) = study.series
    candidate = Candidate(series, series.instances[0], study.description)
    assert candidate.view is view(dataset)
    said = {True: "chest radiograph", False: "radiograph of another body part"}
    known = said.get(candidate.is_chest, "radiograph of an unnamed body part")  # type: ignore[call-overload]
    assert known == subject(dataset)


header_changes = st.fixed_dictionaries(
    {},
    optional={
        "Modality": st.sampled_from(["CR", "DX", "CT", "MR", "SR", "OT", ""]),
        "BodyPartExamined": parts,
        "ViewPosition": st.sampled_from(["", "PA", "LL", "XX"]),
        "ImageType": st.sampled_from(
            [["ORIGINAL", "PRIMARY"], ["DERIVED", "PRIMARY"], ["DERIVED", "SECONDARY"]]
        ),
        "AcquisitionTime": st.sampled_from([None, "09", "0901", "090101.5"]),
        "AcquisitionNumber": st.sampled_from([None, 1, 2]),
        "InstanceNumber": st.sampled_from([None, 1, 2]),
        "NumberOfFrames": st.sampled_from([None, 0, 1, 3]),
        "ImagePositionPatient": st.none() | st.lists(st.integers(-3, 3), min_size=3, max_size=3),
        "ImageOrientationPatient": st.sampled_from([None, list(AXIAL), list(CORONAL)]),
        "FrameOfReferenceUID": st.sampled_from([None, "1.2", "1.3"]),
        "ConvolutionKernel": st.sampled_from([None, "LUNG", "STANDARD"]),
        "IrradiationEventUID": st.sampled_from([None, "1.2", "1.3"]),
        "Rows": st.sampled_from([256, 128]),
    },
)
listed = st.lists(
    st.builds(
        lambda kind, number, series, changes: kind(number, series, **changes),
        st.sampled_from([x_ray, axial]),
        st.integers(1, 4),
        st.integers(1, 3),
        header_changes,
    ),
    min_size=1,
    max_size=12,
)
readers = st.sampled_from([frozenset({"CR", "DX"}), CT, frozenset({"DX", "CT", "MR"}), frozenset()])


@given(listed, readers)
def test_every_instance_is_either_read_or_left_out_once(
    objects: list[Header], modalities: frozenset[str]
) -> None:
    selection = selected(objects, modalities)
    read = [each.sop_instance_uid for each in selection.chosen]
    left_out = [each.sop_instance_uid for each in selection.excluded]
    assert Counter(read + left_out) == Counter(each["00080018"]["Value"][0] for each in objects)
    assert len(set(read)) == len(read)
    assert selection.chosen or selection.declined().reason not in {None, Reason.PROCESSING_FAILED}


@given(listed, readers, st.randoms(use_true_random=False))
def test_the_choice_does_not_depend_on_the_order_in_which_the_archive_lists(
    objects: list[Header], modalities: frozenset[str], chance: random.Random
) -> None:
    study = study_of(objects, timezone="UTC")
    mixed = [
        replace(each, instances=tuple(chance.sample(each.instances, len(each.instances))))
        for each in study.series
    ]
    chance.shuffle(mixed)
    shuffled = replace(study, series=tuple(mixed))
    assert select_images(shuffled, modalities=modalities) == select_images(
        study, modalities=modalities
    )
    unique = list({each["00080018"]["Value"][0]: each for each in objects}.values())
    again = chance.sample(unique, len(unique))
    assert selected(again, modalities) == selected(unique, modalities)


json_value = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=7) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=9,
)
damage = st.dictionaries(
    st.sampled_from(sorted({*axial(1), *key_object("113001", "1.1")} - {"00080018", "0020000D"})),
    json_value | st.fixed_dictionaries({"Value": st.lists(json_value, max_size=7)}),
    max_size=6,
)


@given(st.lists(damage, min_size=1, max_size=4), readers)
def test_whatever_the_archive_sends_nothing_raises(
    damages: list[dict[str, Any]], modalities: frozenset[str]
) -> None:
    keep = {"0020000E", "00100020"}
    objects = [
        {**axial(n), **{tag: value for tag, value in each.items() if tag not in keep}}
        for n, each in enumerate(damages, start=1)
    ]
    selection = selected(objects, modalities)
    assert len(selection.chosen) + len(selection.excluded) == len(objects)


def test_frontal_views_come_before_unnamed_ones() -> None:
    study = chest_study()
    series = replace(study.series[0], description="")
    first = series.instances[0]
    instances = (
        replace(first, sop_instance_uid="1.1", view_position=""),
        replace(first, sop_instance_uid="1.3", view_position="AP"),
    )
    study = replace(study, description="", series=(replace(series, instances=instances),))
    (frontal, unnamed) = select_images(study).chosen
    assert (frontal.sop_instance_uid, unnamed.sop_instance_uid) == ("1.3", "1.1")
    assert View.UNKNOWN is Candidate(series, instances[0]).view
