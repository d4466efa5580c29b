"""What the engine says of a study: a priority with its findings, or why there is none.

A failure never looks like "nothing found": ``NotAnalysed`` is a type of its own and has no
priority.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import Self

import numpy as np
from numpy.typing import NDArray


class Priority(StrEnum):
    """How soon a radiologist should look.

    ``NORMAL`` means that no listed finding is above its threshold. It never means a healthy chest.
    """

    NORMAL = "normal"
    FLAGGED = "flagged"
    URGENT = "urgent"

    @property
    def rank(self) -> int:
        """Position in a worklist: 0 is read first."""
        return [Priority.URGENT, Priority.FLAGGED, Priority.NORMAL].index(self)


class Reason(StrEnum):
    """Why a study was not analysed: declined on purpose, or broken (``is_failure``)."""

    NO_IMAGE = "NO_IMAGE"
    NON_CHEST = "NON_CHEST"
    LATERAL_VIEW = "LATERAL_VIEW"
    UNKNOWN_VIEW = "UNKNOWN_VIEW"
    UNSUPPORTED_MODALITY = "UNSUPPORTED_MODALITY"
    PAEDIATRIC = "PAEDIATRIC"
    ADULT = "ADULT"
    UNKNOWN_AGE = "UNKNOWN_AGE"
    FIELD_OF_VIEW = "FIELD_OF_VIEW"
    POOR_QUALITY = "POOR_QUALITY"
    OUT_OF_DISTRIBUTION = "OUT_OF_DISTRIBUTION"
    UNSUPPORTED_TRANSFER_SYNTAX = "UNSUPPORTED_TRANSFER_SYNTAX"
    UNREADABLE = "UNREADABLE"
    MULTI_FRAME = "MULTI_FRAME"
    MODEL_FAILED = "MODEL_FAILED"
    MODEL_RECALLED = "MODEL_RECALLED"
    PROCESSING_FAILED = "PROCESSING_FAILED"

    @property
    def is_failure(self) -> bool:
        """Whether something broke, as opposed to an image that was declined on purpose."""
        return self in {Reason.UNREADABLE, Reason.MODEL_FAILED, Reason.PROCESSING_FAILED}


@dataclass(frozen=True, slots=True)
class ModelIdentity:
    """Which model spoke.

    Parameters
    ----------
    name, version
        As on the model card, such as ``cxr-lite0`` and ``1.0.1``.
    sha256
        Digest, 64 hexadecimal digits, of the bundle's manifest, which names the digest of the
        graph, the thresholds and the card: a change to any of them is another model.
    """

    name: str
    version: str
    sha256: str


@dataclass(frozen=True, slots=True)
class Finding:
    """One finding that the model looks for.

    Parameters
    ----------
    label
        Key of the finding in ``snake_case``, such as ``pleural_effusion``; ``abnormal`` is the
        finding "any abnormality".
    probability
        Calibrated probability, 0 to 1.
    threshold
        Operating point, 0 to 1: the finding is positive at or above it.
    """

    label: str
    probability: float
    threshold: float

    @property
    def positive(self) -> bool:
        """Whether the probability reaches the operating point."""
        return self.probability >= self.threshold


@dataclass(frozen=True, slots=True, eq=False)
class Saliency:
    """Where the network drew its evidence for one finding. Explains the model, locates no lesion.

    Parameters
    ----------
    label
        The finding explained.
    grid
        **shape** ``(rows, columns)`` of the last convolution, **dtype** ``float32``, range 0 to 1
        (1 is the strongest evidence on this image), covering the whole image edge to edge.
    """

    label: str
    grid: NDArray[np.float32]


@dataclass(frozen=True, slots=True, eq=False)
class TriageResult:
    """The result of one study.

    Parameters
    ----------
    priority
        Of the study.
    findings
        Every finding of the model, in the order of its card.
    saliency
        One map per finding, in the same order.
    model
        Who says so.
    image_index
        Which of the images given to ``Engine.read`` the result rests on.
    """

    priority: Priority
    findings: tuple[Finding, ...]
    saliency: tuple[Saliency, ...]
    model: ModelIdentity
    image_index: int = 0

    @property
    def top_findings(self) -> tuple[Finding, ...]:
        """Positive findings, the one furthest above its threshold first."""
        return tuple(
            sorted(
                (f for f in self.findings if f.positive), key=lambda f: f.threshold - f.probability
            )
        )

    def saliency_of(self, label: str) -> Saliency:
        """Give the map of one finding.

        Raises
        ------
        KeyError
            If the model has no such finding.
        """
        for saliency in self.saliency:
            if saliency.label == label:
                return saliency
        raise KeyError(label)


@dataclass(frozen=True, slots=True)
class NotAnalysed:
    """Why there is no result.

    Parameters
    ----------
    reason
        Coded reason.
    detail
        One sentence for a person. Holds no patient data and no file path.
    model
        The model that declined, or ``None`` where none was asked.
    """

    reason: Reason
    detail: str
    model: ModelIdentity | None = None

    def __post_init__(self) -> None:
        """Refuse an empty explanation.

        Raises
        ------
        ValueError
            If ``detail`` is blank.
        """
        if not self.detail.strip():
            msg = "NotAnalysed needs a sentence that says why"
            raise ValueError(msg)

    @classmethod
    def because(cls, reason: Reason, detail: str) -> Self:
        """Build one where no model was asked."""
        return cls(reason, detail)


Outcome = TriageResult | NotAnalysed
