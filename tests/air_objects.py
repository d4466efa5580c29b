"""Good AI results by highdicom and by hand: nothing here is made by the product's own mappers."""

from collections.abc import Sequence

import highdicom as hd
import numpy as np
from highdicom.sr.value_types import (
    CodeContentItem,
    CompositeContentItem,
    ContentSequence,
)
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.sequence import Sequence as Items
from pydicom.sr.codedict import codes
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, SecondaryCaptureImageStorage
from studies import STUDY_UID, chest_instance

DEVICE_UID = "2.25.1001"
TRACKING_UID = "2.25.2001"
MODEL = "chest-net"
VERSION = "1.4.0"
_CHEST = hd.sr.CodedConcept("36643-5", "LN", "XR Chest 2 Views")
_MADE_BY = {
    "manufacturer": "Example Maker",
    "manufacturer_model_name": MODEL,
    "software_versions": VERSION,
    "device_serial_number": "1",
}


def coded(value: str, scheme: str, meaning: str) -> Dataset:
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = value, scheme, meaning
    return item


def ct_slice() -> Dataset:
    """A slice with a frame of reference, in the study of the chest radiograph."""
    return chest_instance(
        SOPClassUID=CTImageStorage,
        SOPInstanceUID=f"{STUDY_UID}.2.1",
        SeriesInstanceUID=f"{STUDY_UID}.2",
        FrameOfReferenceUID=f"{STUDY_UID}.9",
        PositionReferenceIndicator="",
        Modality="CT",
        SeriesNumber=2,
        ViewPosition=None,
        PresentationIntentType=None,
        ImagePositionPatient=[0, 0, 0],
        ImageOrientationPatient=[1, 0, 0, 0, 1, 0],
        PixelSpacing=[1, 1],
        SliceThickness=1,
        Rows=8,
        Columns=8,
        PixelData=np.zeros((8, 8), np.uint16).tobytes(),
        RescaleIntercept=0,
        RescaleSlope=1,
    )


def finished(dataset: Dataset, number: int) -> Dataset:
    """Give an object what every AI result has: its own UIDs, times, and the algorithm."""
    equipment = Dataset()
    equipment.PurposeOfReferenceCodeSequence = Items(
        [coded("109102", "DCM", "Processing Equipment")]
    )
    equipment.Manufacturer = "Example Maker"
    equipment.ManufacturerModelName = MODEL
    equipment.SoftwareVersions = VERSION
    equipment.DeviceUID = DEVICE_UID
    dataset.ContributingEquipmentSequence = Items([equipment])
    dataset.SOPInstanceUID = f"2.25.30{number}"
    dataset.SeriesInstanceUID = f"2.25.40{number}"
    dataset.InstanceCreationDate, dataset.InstanceCreationTime = "20261120", "093004"
    if "ContentDate" in dataset:
        dataset.ContentDate, dataset.ContentTime = "20261120", "093001.250"
    if dataset.Modality in {"OT", "PR"}:
        dataset.BodyPartExamined = "CHEST"
    dataset.IssuerOfPatientID = "Example Trust"
    dataset.StudyDescription = "Chest PA"
    if "file_meta" in dataset.__dict__:
        dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    return dataset


def observation_context() -> hd.sr.ObservationContext:
    device = hd.sr.DeviceObserverIdentifyingAttributes(uid=DEVICE_UID, name=MODEL)
    context = hd.sr.ObserverContext(
        observer_type=codes.DCM.Device, observer_identifying_attributes=device
    )
    return hd.sr.ObservationContext(observer_device_context=context)


def group(source: Dataset) -> hd.sr.PlanarROIMeasurementsAndQualitativeEvaluations:
    """A measured, located, tracked finding."""
    region = hd.sr.ImageRegion(
        graphic_type=hd.sr.GraphicTypeValues.POLYLINE,
        graphic_data=np.array([[10.0, 10], [200, 10], [200, 250], [10, 250], [10, 10]]),
        source_image=hd.sr.SourceImageForRegion.from_source_image(source),
    )
    algorithm = hd.sr.AlgorithmIdentification(name=MODEL, version=VERSION)
    certainty = hd.sr.Measurement(
        name=hd.sr.CodedConcept("111012", "DCM", "Certainty of Finding"),
        value=97.0,
        unit=codes.UCUM.Percent,
    )
    return hd.sr.PlanarROIMeasurementsAndQualitativeEvaluations(
        tracking_identifier=hd.sr.TrackingIdentifier(uid=TRACKING_UID, identifier="effusion 1"),
        referenced_region=region,
        finding_type=hd.sr.CodedConcept("60046008", "SCT", "Pleural effusion"),
        algorithm_id=algorithm,
        measurements=[certainty],
    )


def report(
    source: Dataset,
    number: int,
    evidence: Sequence[Dataset],
    refers_to: Sequence[Dataset] = (),
) -> Dataset:
    content = hd.sr.MeasurementReport(
        observation_context=observation_context(),
        procedure_reported=_CHEST,
        imaging_measurements=[group(source)],
        title=codes.DCM.ImagingMeasurementReport,
    )
    root = content[0]
    if refers_to:
        (measurements,) = root.ContentSequence.find(codes.DCM.ImagingMeasurements)
        measurements.ContentSequence = ContentSequence(
            CompositeContentItem(
                name=codes.DCM.ReferencedSegment,
                referenced_sop_class_uid=each.SOPClassUID,
                referenced_sop_instance_uid=each.SOPInstanceUID,
                relationship_type=hd.sr.RelationshipTypeValues.CONTAINS,
            )
            for each in refers_to
        )
    root.ContentSequence.append(
        CodeContentItem(
            name=hd.sr.CodedConcept("111017", "DCM", "CAD Processing and Findings Summary"),
            value=hd.sr.CodedConcept("111242", "DCM", "All algorithms succeeded; with findings"),
            relationship_type=hd.sr.RelationshipTypeValues.CONTAINS,
        )
    )
    made = hd.sr.Comprehensive3DSR(
        evidence=list(evidence),
        content=root,
        series_instance_uid="2.25.1",
        series_number=number,
        sop_instance_uid="2.25.2",
        instance_number=1,
        manufacturer="Example Maker",
        manufacturer_model_name=MODEL,
        software_versions=VERSION,
        device_serial_number="1",
        is_complete=True,
        is_verified=False,
        transfer_syntax_uid=ExplicitVRLittleEndian,
    )
    return finished(made, number)


def segmentation(source: Dataset, number: int) -> Dataset:
    description = hd.seg.SegmentDescription(
        segment_number=1,
        segment_label="effusion",
        segmented_property_category=hd.sr.CodedConcept(
            "49755003", "SCT", "Morphologically Abnormal Structure"
        ),
        segmented_property_type=hd.sr.CodedConcept("60046008", "SCT", "Pleural effusion"),
        algorithm_type=hd.seg.SegmentAlgorithmTypeValues.AUTOMATIC,
        algorithm_identification=hd.AlgorithmIdentificationSequence(
            name=MODEL, family=codes.DCM.ArtificialIntelligence, version=VERSION
        ),
        tracking_uid=TRACKING_UID,
        tracking_id="effusion 1",
    )
    mask = np.zeros((source.Rows, source.Columns), np.uint8)
    mask[2:5, 2:5] = 1
    made = hd.seg.Segmentation(
        source_images=[source],
        pixel_array=mask,
        segmentation_type=hd.seg.SegmentationTypeValues.BINARY,
        segment_descriptions=[description],
        series_instance_uid="2.25.1",
        series_number=number,
        sop_instance_uid="2.25.2",
        instance_number=1,
        **_MADE_BY,
    )
    made.SegmentsOverlap = "NO"
    return finished(made, number)


def parametric_map(source: Dataset, number: int) -> Dataset:
    mapping = hd.pm.RealWorldValueMapping(
        lut_label="CAM",
        lut_explanation="class activation",
        unit=codes.UCUM.NoUnits,
        value_range=(0.0, 1.0),
        slope=1.0,
        intercept=0.0,
        quantity_definition=hd.sr.CodedConcept("130402", "DCM", "Class activation"),
    )
    made = hd.pm.ParametricMap(
        source_images=[source],
        pixel_array=np.zeros((1, 8, 8), np.float32),
        series_instance_uid="2.25.1",
        series_number=number,
        sop_instance_uid="2.25.2",
        instance_number=1,
        contains_recognizable_visual_features=False,
        real_world_value_mappings=[mapping],
        voi_lut_transformations=[hd.VOILUTTransformation(window_center=0.5, window_width=1.0)],
        **_MADE_BY,
    )
    return finished(made, number)


def inherited(source: Dataset, sop_class_uid: str) -> Dataset:
    made = Dataset()
    for keyword in (
        *("PatientName", "PatientID", "PatientBirthDate", "PatientSex", "StudyInstanceUID"),
        *("StudyDate", "StudyTime", "StudyID", "AccessionNumber", "ReferringPhysicianName"),
        "SpecificCharacterSet",
    ):
        made[keyword] = source[keyword]
    made.SOPClassUID = sop_class_uid
    made.InstanceNumber = 1
    made.file_meta = FileMetaDataset()
    made.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    made.file_meta.MediaStorageSOPClassUID = sop_class_uid
    return made


def secondary_capture(source: Dataset, number: int) -> Dataset:
    made = inherited(source, SecondaryCaptureImageStorage)
    made.Modality, made.ConversionType, made.SeriesNumber = "OT", "WSD", number
    made.PatientOrientation = None
    made.SamplesPerPixel, made.PhotometricInterpretation = 1, "MONOCHROME2"
    made.Rows, made.Columns = 2, 2
    made.BitsAllocated, made.BitsStored, made.HighBit, made.PixelRepresentation = 8, 8, 7, 0
    made.add_new("PixelData", "OB", b"\0\1\2\3")
    made.SourceImageSequence = Items([pointing_at(source)])
    return finished(made, number)


def presentation_state(source: Dataset, number: int) -> Dataset:
    made = hd.pr.GrayscaleSoftcopyPresentationState(
        referenced_images=[source],
        series_instance_uid="2.25.1",
        series_number=number,
        sop_instance_uid="2.25.2",
        instance_number=1,
        content_label="AI_RESULT",
        **_MADE_BY,
    )
    return finished(made, number)


def key_object(source: Dataset, number: int) -> Dataset:
    content = hd.ko.KeyObjectSelection(
        document_title=codes.DCM.OfInterest, referenced_objects=[source]
    )
    made = hd.ko.KeyObjectSelectionDocument(
        evidence=[source],
        content=content,
        series_instance_uid="2.25.1",
        series_number=number,
        sop_instance_uid="2.25.2",
        instance_number=1,
        **_MADE_BY,
    )
    return finished(made, number)


def pointing_at(target: Dataset) -> Dataset:
    item = Dataset()
    item.ReferencedSOPClassUID = target.SOPClassUID
    item.ReferencedSOPInstanceUID = target.SOPInstanceUID
    return item


def air_set() -> dict[str, Dataset]:
    """A study of two images with every kind of result, and nothing wrong with any of them."""
    chest, slice_ = chest_instance(), ct_slice()
    results = {
        "report.dcm": report(chest, 11, [chest]),
        "segmentation.dcm": segmentation(slice_, 12),
        "map.dcm": parametric_map(slice_, 13),
        "capture.dcm": secondary_capture(chest, 14),
        "state.dcm": presentation_state(chest, 15),
        "key-object.dcm": key_object(chest, 16),
    }
    made = list(results.values())
    root = report(chest, 17, [chest, *made], refers_to=made)
    return {"chest.dcm": chest, "slice.dcm": slice_, **results, "root.dcm": root}
