"""Errors of the server.

::

    CdsServerError
    ├── InvalidSettings      a setting is missing, malformed or unsafe; refuse to start
    ├── AlreadyRunning       another worker holds the same folder; refuse to start
    ├── ArchiveError         the image archive failed
    │   ├── ArchiveUnreachable   try again later
    │   ├── StudyNotFound        the archive has no such study
    │   └── InstanceUnreadable   one object cannot be read, whoever asks
    ├── Forbidden            the person may not see this; the refusal is recorded
    ├── ResultNotFound       no result is stored under that identifier
    ├── UnknownSearchParameter   a FHIR search asks for what is not supported
    ├── DeliveryFailed       a destination did not accept; retried
    │   └── DeliveryRefused      it never will; parked
    ├── PeerUnavailable      another server does not answer, or not as it must
    │   └── KeysUnavailable      the public keys of an issuer cannot be had
    └── AuditUnavailable     the audit trail cannot be written: nothing leaves the server
"""


class CdsServerError(Exception):
    """Base of everything this room raises on purpose."""


class InvalidSettings(CdsServerError):
    """A setting is missing, malformed or unsafe. The server refuses to start."""


class AlreadyRunning(CdsServerError):
    """Another worker holds the same folder. This one refuses to start."""


class ArchiveError(CdsServerError):
    """The image archive failed."""


class ArchiveUnreachable(ArchiveError):
    """The archive does not answer. Worth trying again."""


class StudyNotFound(ArchiveError):
    """The archive has no such study."""


class InstanceUnreadable(ArchiveError):
    """One object cannot be read: damaged, or in a form that nothing here decodes."""


class Forbidden(CdsServerError):
    """The person may not see this. Where it is known who asks, the refusal is in the audit trail.

    Parameters
    ----------
    says
        Why, in words for the person; never of the patient.
    result_id
        The study, where breaking the glass would open it; else empty.
    """

    def __init__(self, says: str, result_id: str = "") -> None:
        super().__init__(says)
        self.result_id = result_id


class ResultNotFound(CdsServerError):
    """No result is stored under that identifier."""


class UnknownSearchParameter(CdsServerError):
    """A FHIR search uses a parameter or value that is not supported. Never ignored silently."""


class DeliveryFailed(CdsServerError):
    """A destination did not accept the result. Worth trying again."""


class DeliveryRefused(DeliveryFailed):
    """A destination will never accept the result as it is. Parked for a person."""


class DestinationUnavailable(DeliveryFailed):
    """A destination is away or overloaded: nothing else would arrive there now either.

    Parameters
    ----------
    says
        What happened, in words without patient data.
    retry_after_s
        Seconds to wait that it asked for; ``None`` where it named none.
    """

    def __init__(self, says: str, retry_after_s: float | None = None) -> None:
        super().__init__(says)
        self.retry_after_s = retry_after_s


class PeerUnavailable(CdsServerError):
    """Another server does not answer, or not as it must. Holds no token and no patient data."""


class KeysUnavailable(PeerUnavailable):
    """The public keys of an issuer cannot be had. Its tokens are refused."""


class AuditUnavailable(CdsServerError):
    """The audit trail cannot be written. Nothing leaves the server."""
