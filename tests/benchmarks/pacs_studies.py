"""Studies for the benchmark of the PACS: copies of a real radiograph, and made CT series."""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pydicom
from pydicom.data import get_testdata_file
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian

sys.path.insert(0, str(Path(__file__).parents[1] / "e2e"))
from viewer_preview import ct_slice

SIZE, DIFFERENT = 512, 12
ROOT_UID = "1.2.826.0.1.3680043.8.498.600"


@dataclass(frozen=True)
class SentStudy:
    """A study as files of a folder."""

    study_instance_uid: str
    folder: Path

    @property
    def files(self) -> list[Path]:
        return sorted(self.folder.iterdir())

    @property
    def megabytes(self) -> float:
        return sum(path.stat().st_size for path in self.files) / 1e6


def radiographs(folder: Path, count: int, *, first: int = 1) -> list[SentStudy]:
    """Write copies of RG1, each a study of its own: a chest of 1955 x 1841 pixels, 7.2 MB."""
    path = get_testdata_file("RG1_UNCR.dcm", download=False)
    assert path, "RG1_UNCR.dcm is missing: pip install pydicom-data"
    dataset = pydicom.dcmread(str(path))
    made = []
    for number in range(first, first + count):
        uid = f"{ROOT_UID}.1.{number}"
        dataset.StudyInstanceUID, dataset.SeriesInstanceUID = uid, f"{uid}.1"
        dataset.AccessionNumber = f"CR{number}"
        _write(dataset, f"{uid}.1.1", folder / uid / "1.dcm")
        made.append(SentStudy(uid, folder / uid))
    return made


def ct_series(folder: Path, count: int, slices: int) -> list[SentStudy]:
    """Write CT studies of one series: the slices of a body with two lungs and a spine."""
    drawn = [ct_slice(number, SIZE).clip(0, 4095).tobytes() for number in range(DIFFERENT)]
    made = []
    for number in range(1, count + 1):
        uid = f"{ROOT_UID}.{slices}.{number}"
        for position in range(slices):
            dataset = _slice(uid, position, drawn[position % DIFFERENT])
            _write(dataset, f"{uid}.1.{position + 1}", folder / uid / f"{position + 1:03d}.dcm")
        made.append(SentStudy(uid, folder / uid))
    return made


def _slice(uid: str, position: int, pixels: bytes) -> Dataset:
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    values: dict[str, Any] = {
        "SOPClassUID": CTImageStorage,
        "StudyInstanceUID": uid,
        "SeriesInstanceUID": f"{uid}.1",
        "FrameOfReferenceUID": f"{uid}.2",
        "StudyDate": "20261120",
        "StudyTime": "101500",
        "AccessionNumber": f"CT{uid.rpartition('.')[2]}",
        "ReferringPhysicianName": "",
        "StudyID": "1",
        "StudyDescription": "CT of nobody",
        "Modality": "CT",
        "Manufacturer": "",
        "SeriesNumber": 1,
        "InstanceNumber": position + 1,
        "BodyPartExamined": "CHEST",
        "PatientName": "TEST^CT",
        "PatientID": "CT600",
        "PatientBirthDate": "19700101",
        "PatientSex": "O",
        "ImageType": ["ORIGINAL", "PRIMARY", "AXIAL"],
        "PixelSpacing": [0.7, 0.7],
        "SliceThickness": 3,
        "ImagePositionPatient": [-180, -180, 3 * position],
        "ImageOrientationPatient": [1, 0, 0, 0, 1, 0],
        "SamplesPerPixel": 1,
        "PhotometricInterpretation": "MONOCHROME2",
        "Rows": SIZE,
        "Columns": SIZE,
        "BitsAllocated": 16,
        "BitsStored": 12,
        "HighBit": 11,
        "PixelRepresentation": 0,
        "RescaleIntercept": -1024,
        "RescaleSlope": 1,
        "WindowCenter": 40,
        "WindowWidth": 400,
        "PixelData": pixels,
    }
    for keyword, value in values.items():
        setattr(dataset, keyword, value)
    dataset["PixelData"].VR = "OW"
    return dataset


def _write(dataset: Dataset, sop_instance_uid: str, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    dataset.SOPInstanceUID = sop_instance_uid
    dataset.file_meta.MediaStorageSOPInstanceUID = sop_instance_uid
    dataset.save_as(path, enforce_file_format=True)
