"""Reading one study: its images chosen, fetched, opened and given to the model."""

import hashlib
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from pydicom.dataset import Dataset

from ai_engine.errors import AiEngineError
from ai_engine.image import Image
from ai_engine.result import NotAnalysed, Outcome, Reason, TriageResult
from cds_server.errors import InstanceUnreadable, StudyNotFound
from cds_server.imaging import Decoder, ImageArchive
from cds_server.ports import Reader, StudyState
from fhir_mappers import acquisition
from fhir_mappers.dicom_json import Attributes, header, text
from fhir_mappers.dicom_study import study_of, unidentified_study
from fhir_mappers.errors import ImageDeclined, InvalidStudy
from fhir_mappers.selection import ChosenInstance, Exclusion, Selection, select_images
from fhir_mappers.study import Study

Progress = Callable[[StudyState], None]


class Stopwatch:
    """Seconds spent in each named part, adding up."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._since = time.monotonic()

    def lap(self, part: str) -> None:
        """Count the time since the last lap towards ``part``."""
        now = time.monotonic()
        self.seconds[part] = self.seconds.get(part, 0.0) + now - self._since
        self._since = now


@dataclass(frozen=True, slots=True, eq=False)
class Reading:
    """What reading a study gave.

    Parameters
    ----------
    study
        As the archive describes it.
    outcome
        What the model said, or why it was not asked.
    source
        Header of the image that the outcome rests on; of a study that was not analysed, of the
        instance that comes closest. ``None`` where nothing is known of the study.
    image
        That image, or ``None``.
    sha256
        Digest of each file that was to be read, by its SOP Instance UID; empty where it could not
        be fetched.
    exclusions
        What was not read, and why.
    notes
        What else is to be known of the choice of images.
    stopwatch
        How long it took, by step.
    """

    study: Study
    outcome: Outcome
    source: Dataset | None = None
    image: Image | None = None
    sha256: Mapping[str, str] = field(default_factory=dict)
    exclusions: tuple[Exclusion, ...] = ()
    notes: tuple[str, ...] = ()
    stopwatch: Stopwatch = field(default_factory=Stopwatch)

    @property
    def unread(self) -> int:
        """How many images should have been read and could not be, where others were."""
        if self.image is None:
            return 0
        return sum(
            isinstance(each.reason, Reason) and each.sop_instance_uid in self.sha256
            for each in self.exclusions
        )


@dataclass(frozen=True, slots=True, eq=False)
class _Opened:
    """What was fetched and opened: each image with its header, and what was not."""

    images: list[Image] = field(default_factory=list)
    headers: list[Dataset] = field(default_factory=list)
    sha256: dict[str, str] = field(default_factory=dict)
    refused: dict[str, NotAnalysed] = field(default_factory=dict)

    def exclusions(self) -> tuple[Exclusion, ...]:
        """Say of each image that was not opened why."""
        return tuple(Exclusion(uid, no.reason, no.detail) for uid, no in self.refused.items())


class StudyReader:
    """Reads studies of an archive with a model.

    Parameters
    ----------
    archive
        Where images come from. Its metadata come first, then only what the model needs.
    decoder
        Opens them.
    reader
        The AI engine.
    timezone
        IANA zone of studies without offset.
    """

    def __init__(
        self, archive: ImageArchive, decoder: Decoder, reader: Reader, *, timezone: str
    ) -> None:
        self._archive = archive
        self._decoder = decoder
        self._reader = reader
        self._timezone = timezone

    def read(self, study_instance_uid: str, progress: Progress) -> Reading:
        """Read a study. What cannot be read is an outcome with its reason, never an error.

        Raises
        ------
        ArchiveUnreachable
            If the archive does not answer.
        """
        stopwatch = Stopwatch()
        progress(StudyState.FETCHING)
        try:
            metadata, study, selection = self._described(study_instance_uid)
        except (StudyNotFound, InvalidStudy, InstanceUnreadable) as error:
            declined = NotAnalysed(Reason.UNREADABLE, str(error), self._reader.model)
            return Reading(unidentified_study(study_instance_uid), declined)
        stopwatch.lap("fetch")
        opened = self._opened(study, selection.chosen, stopwatch)
        outcome, shown = self._outcome(opened, selection, progress)
        if isinstance(outcome, NotAnalysed) and outcome.model is None:
            outcome = replace(outcome, model=self._reader.model)
        stopwatch.lap("infer")
        return Reading(
            study,
            outcome,
            self._described_by(_closest(metadata, selection))
            if shown is None
            else opened.headers[shown],
            None if shown is None else opened.images[shown],
            opened.sha256,
            selection.excluded + opened.exclusions(),
            selection.notes,
            stopwatch,
        )

    def differs(self, study_instance_uid: str, read: Mapping[str, str], *, contents: bool) -> bool:
        """Say whether the archive now holds other images to read than were read.

        Parameters
        ----------
        study_instance_uid
            Which study.
        read
            ``Reading.sha256`` of then.
        contents
            Whether to fetch them and compare their content too.

        Raises
        ------
        ArchiveUnreachable
            If the archive does not answer.
        """
        try:
            _, _, selection = self._described(study_instance_uid)
        except StudyNotFound:
            return False
        except (InvalidStudy, InstanceUnreadable):
            return bool(read)
        if {each.sop_instance_uid for each in selection.chosen} != set(read):
            return True
        if not contents:
            return False
        return any(
            self._sha256(study_instance_uid, each) != read[each.sop_instance_uid]
            for each in selection.chosen
        )

    def _described(self, study_instance_uid: str) -> tuple[Sequence[Attributes], Study, Selection]:
        metadata = self._archive.metadata(study_instance_uid)
        study = study_of(metadata, timezone=self._timezone)
        return metadata, study, select_images(study, modalities=self._reader.modalities)

    def _described_by(self, attributes: Attributes) -> Dataset:
        """Give the header of an instance that was not read: the file's own where words may differ.

        Some PACS garble text of other character sets in their JSON. What is ASCII cannot be.
        """
        described = header(attributes)
        if _is_ascii(described):
            return described
        names = ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID")
        uids = [acquisition.text(described, name) for name in names]
        try:
            own = self._decoder.header(self._archive.instance(uids[0], uids[1], uids[2]))
        except (InstanceUnreadable, StudyNotFound):
            return described
        same = [acquisition.text(own, name) for name in names] == uids
        return own if same else described

    def _fetched(self, study_instance_uid: str, chosen: ChosenInstance) -> bytes:
        return self._archive.instance(
            study_instance_uid, chosen.series_instance_uid, chosen.sop_instance_uid
        )

    def _sha256(self, study_instance_uid: str, chosen: ChosenInstance) -> str:
        try:
            return hashlib.sha256(self._fetched(study_instance_uid, chosen)).hexdigest()
        except (InstanceUnreadable, StudyNotFound):
            return ""

    def _opened(
        self, study: Study, choice: Sequence[ChosenInstance], stopwatch: Stopwatch
    ) -> _Opened:
        """Fetch and open what was chosen; one bad instance does not keep the others from it."""
        opened = _Opened()
        for chosen in choice:
            uid = chosen.sop_instance_uid
            opened.sha256[uid] = ""
            try:
                content = self._fetched(study.study_instance_uid, chosen)
                opened.sha256[uid] = hashlib.sha256(content).hexdigest()
                stopwatch.lap("fetch")
                decoded = self._decoder.decode(content)
                _check_is(decoded.header, study, uid)
                opened.images.append(decoded.image)
                opened.headers.append(decoded.header)
            except StudyNotFound:
                msg = "The image was removed from the archive before it was read."
                opened.refused[uid] = NotAnalysed(Reason.UNREADABLE, msg)
            except InstanceUnreadable as error:
                opened.refused[uid] = NotAnalysed(Reason.UNREADABLE, str(error))
            except ImageDeclined as error:
                opened.refused[uid] = error.outcome
            stopwatch.lap("decode")
        return opened

    def _outcome(
        self, opened: _Opened, selection: Selection, progress: Progress
    ) -> tuple[Outcome, int | None]:
        """Ask the model; give which image it rests on, or ``None`` where there is none to read."""
        if not opened.images:
            return next(iter(opened.refused.values()), None) or selection.declined(), None
        progress(StudyState.ANALYSING)
        try:
            outcome = self._reader.read(opened.images)
        except AiEngineError as error:
            return NotAnalysed(Reason.MODEL_FAILED, str(error), self._reader.model), 0
        return outcome, outcome.image_index if isinstance(outcome, TriageResult) else 0


def _check_is(header: Dataset, study: Study, sop_instance_uid: str) -> None:
    """Refuse an image that is another than was asked for: it may be of another patient.

    Raises
    ------
    InstanceUnreadable
        If its own identifiers say so.
    """
    named = (header.get("StudyInstanceUID"), header.get("SOPInstanceUID"))
    if named != (study.study_instance_uid, sop_instance_uid):
        msg = "The archive sent another image than it was asked for."
        raise InstanceUnreadable(msg)
    patient_id = acquisition.text(header, "PatientID")
    if patient_id and study.patient.patient_id and patient_id != study.patient.patient_id:
        msg = "The image names another patient than the archive does."
        raise InstanceUnreadable(msg)


def _closest(metadata: Sequence[Attributes], selection: Selection) -> Attributes:
    """Give the description of the first instance that was to be read, else of any."""
    wanted = {each.sop_instance_uid for each in selection.chosen}
    return next((each for each in metadata if text(each, "00080018") in wanted), metadata[0])


def _is_ascii(described: Dataset) -> bool:
    return all(str(element.value).isascii() for element in described.iterall())
