"""Probabilities and operating points in, priority out. Pure: the clinically reviewed file.

The rule, in words:

1. **Urgent** when any finding reaches its urgent operating point.
2. **Flagged** when any finding reaches its flag operating point.
3. **Normal** otherwise: no listed finding is above its threshold. It does not say "healthy".

A higher probability never lowers the priority, and no finding can hide another.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from ai_engine.result import Finding, Priority


@dataclass(frozen=True, slots=True)
class OperatingPoint:
    """Where one finding counts, fixed with the model version on validation patients.

    Parameters
    ----------
    flag
        Probability, 0 to 1, at which the finding is positive.
    urgent
        Probability, at least ``flag``, at which it makes the study urgent; ``None`` for a finding
        that never does.
    """

    flag: float
    urgent: float | None = None

    def __post_init__(self) -> None:
        """Refuse an impossible operating point.

        Raises
        ------
        ValueError
            If a value is outside 0 to 1, or ``urgent`` is below ``flag``.
        """
        if not 0.0 <= self.flag <= 1.0:
            msg = f"flag operating point {self.flag} is outside 0 to 1"
            raise ValueError(msg)
        if self.urgent is not None and not self.flag <= self.urgent <= 1.0:
            msg = f"urgent operating point {self.urgent} is not between {self.flag} and 1"
            raise ValueError(msg)


def findings(
    probabilities: Mapping[str, float], operating_points: Mapping[str, OperatingPoint]
) -> tuple[Finding, ...]:
    """Pair each probability with its threshold, in the order of the operating points.

    Raises
    ------
    KeyError
        If a finding has no probability.
    """
    return tuple(
        Finding(label, probabilities[label], point.flag)
        for label, point in operating_points.items()
    )


def priority(
    probabilities: Mapping[str, float], operating_points: Mapping[str, OperatingPoint]
) -> Priority:
    """Decide how soon a radiologist should look.

    Parameters
    ----------
    probabilities
        Calibrated probability, 0 to 1, of each finding.
    operating_points
        Of each finding.

    Raises
    ------
    KeyError
        If a finding has no probability: a missing number is never "normal".
    """
    reached = Priority.NORMAL
    for label, point in operating_points.items():
        probability = probabilities[label]
        if point.urgent is not None and probability >= point.urgent:
            return Priority.URGENT
        if probability >= point.flag:
            reached = Priority.FLAGGED
    return reached
