"""Errors of the mappers.

::

    MapperError
    ├── InvalidStudy       metadata that no valid study can have, such as a UID with ``../``
    ├── ImageDeclined      an instance is no input for the model; carries the coded reason
    ├── InvalidHookCall    a CDS Hooks call that breaks a rule (``hook_call``)
    └── InvalidMessage     what would be published breaks a rule of its format
"""

from ai_engine.result import NotAnalysed, Reason


class MapperError(Exception):
    """Base of everything this room raises on purpose."""


class InvalidStudy(MapperError):
    """The metadata cannot be those of a valid study."""


class ImageDeclined(MapperError):
    """An instance cannot be, or must not be, given to the model.

    Parameters
    ----------
    reason
        Coded reason.
    detail
        One sentence for a person, without patient data.
    """

    def __init__(self, reason: Reason, detail: str) -> None:
        super().__init__(reason, detail)
        self.outcome = NotAnalysed(reason, detail)


class InvalidMessage(MapperError):
    """What would be published breaks a rule of its format. It is not sent."""
