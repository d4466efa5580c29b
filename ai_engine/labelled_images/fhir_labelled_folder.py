"""A folder of DICOM files whose labels come from FHIR."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ai_engine.errors import LabelsRefused
from ai_engine.labelled_images.fhir_labels import FhirJudgement, judgements, read_resources
from ai_engine.labelled_images.image_files import ImageFiles
from ai_engine.labelled_images.labelled_image import LabelledImage
from ai_engine.labelled_images.pixel_reader import ImageHeader, PixelReader


class FhirLabelledFolder:
    """The images that some final report or observation speaks of.

    An image has the labels of its study and its own. Where two resources disagree, one of them
    wrong, the finding counts as not judged.

    Parameters
    ----------
    resources
        Files of FHIR R4 resources: NDJSON, JSON, Bundles.
    images
        Folder of the image files.
    findings
        The finding that each code means, by ``system|code``.
    reader
        Reads the files and says their UIDs.
    complete_reports
        Whether what a coded report does not conclude is absent.
    noted
        Called after each header that was read, for a progress bar.

    Raises
    ------
    LabelsRefused
        If no image is labelled, or one has the labels of two persons.
    UnreadableImage
        If a header cannot be read.
    """

    def __init__(
        self,
        resources: Sequence[Path],
        images: Path,
        findings: Mapping[str, str],
        reader: PixelReader,
        *,
        complete_reports: bool = False,
        noted: Callable[[], None] = lambda: None,
    ) -> None:
        self._files, self._reader = ImageFiles([images]), reader
        told: dict[str, list[FhirJudgement]] = {}
        read = [each for path in resources for each in read_resources(path)]
        for each in judgements(read, findings, complete_reports=complete_reports):
            told.setdefault(each.uid, []).append(each)
        labelled = []
        for address in self._files.place_of:
            header = reader.header(self._files.path(address))
            noted()
            of_image = [*told.get(header.study_uid, ()), *told.get(header.instance_uid, ())]
            if of_image:
                labelled.append(_labelled(address, header, of_image))
        self._images = tuple(labelled)
        judged = frozenset[str]().union(*(each.judged for each in labelled))
        self._findings = tuple(name for name in dict.fromkeys(findings.values()) if name in judged)
        if not self._findings:
            msg = (
                f"None of the {len(read)} FHIR resources labels an image of {images}. They must be "
                "final, name Study or SOP Instance UIDs, and use the codes of the mapping."
            )
            raise LabelsRefused(msg)

    @property
    def findings(self) -> tuple[str, ...]:
        """In the order of the mapping."""
        return self._findings

    @property
    def images(self) -> Sequence[LabelledImage]:
        """In the order of the file names."""
        return self._images

    def pixels(self, image: LabelledImage) -> NDArray[np.float32]:
        """Read one image.

        Raises
        ------
        UnreadableImage
            If it cannot be read or decoded.
        """
        return self._reader.pixels(self._files.path(image.address))


def _labelled(
    address: str, header: ImageHeader, judgements_of_it: Sequence[FhirJudgement]
) -> LabelledImage:
    """Put together what was said of one image.

    Raises
    ------
    LabelsRefused
        If it was said of two persons.
    """
    persons = {each.person for each in judgements_of_it}
    if len(persons) > 1:
        msg = f"{address} has labels of {len(persons)} subjects. Correct the references."
        raise LabelsRefused(msg)
    present = frozenset[str]().union(*(each.present for each in judgements_of_it))
    absent = frozenset[str]().union(*(each.absent for each in judgements_of_it))
    return LabelledImage(
        address=address,
        person=min(persons),
        present=present - absent,
        judged=present ^ absent,
        view=header.view,
        sex=header.sex,
        age_years=header.age_years,
        site=header.site,
        manufacturer=header.manufacturer,
    )
