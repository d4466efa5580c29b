"""What the transport has to know of a message: who it is, and what answers it.

References
----------
HL7 v2.5.1 ch. 2.9 (message processing rules), 2.15.8 MSA, 2.15.9 MSH; tables 0008, 0155.
"""

from dataclasses import dataclass

from cds_server.errors import DeliveryRefused
from fhir_mappers.hl7_inbound.acknowledgement import AcknowledgementCode

_ON_SUCCESS = frozenset({"AL", "SU"})
_ON_ERROR = frozenset({"AL", "ER"})


@dataclass(frozen=True, slots=True)
class Answer:
    """What a receiver said to a message.

    Parameters
    ----------
    code
        MSA-1.
    control_id
        MSA-2: MSH-10 of the message that it is about.
    content
        The acknowledgement as it came; it may quote the message.
    """

    code: AcknowledgementCode
    control_id: str
    content: bytes


def answer_of(content: bytes) -> Answer:
    """Read an acknowledgement: MSA-1 and MSA-2, whatever is missing in its header.

    Receivers leave out of the header of an answer what nobody needs to understand it.

    Raises
    ------
    ValueError
        If it is none.
    """
    segments = content.replace(b"\n", b"\r").split(b"\r")
    separator = segments[0][3:4]
    if not (segments[0].startswith(b"MSH") and separator):
        msg = "it does not start with MSH"
        raise ValueError(msg)
    found = (each.split(separator) for each in segments if each.startswith(b"MSA" + separator))
    _, code, control_id, *_ = [*next(found, []), b"", b"", b""]
    return Answer(AcknowledgementCode(code.decode("ascii")), control_id.decode("ascii"), content)


def asked_for(
    accept: str, application: str, code: AcknowledgementCode
) -> AcknowledgementCode | None:
    """Say which one acknowledgement a sender waits for, where the application says ``code``.

    That of the application, which says more, where it is asked for; else that of the mailbox;
    ``None`` where nobody waits for any.

    Parameters
    ----------
    accept, application
        MSH-15 and MSH-16 of its message.
    code
        ``AA``, ``AE`` or ``AR``.
    """
    when = _ON_SUCCESS if code.accepted else _ON_ERROR
    if not (accept or application) or application in when:
        return code
    return AcknowledgementCode(f"C{code[1]}") if accept in when else None


@dataclass(frozen=True, slots=True)
class Header:
    """What a message says of itself.

    Parameters
    ----------
    control_id
        MSH-10.
    accept
        MSH-15: when the mailbox of the receiver is to answer.
    application
        MSH-16: when its application is.
    """

    control_id: str
    accept: str
    application: str

    @property
    def awaits_application(self) -> bool:
        """Whether the application's answer is waited for, after the mailbox has taken it."""
        return not self.accept if not self.application else self.application in _ON_SUCCESS

    @property
    def answered(self) -> bool:
        """Whether somebody answers where all goes well."""
        return self.awaits_application or self.accept in _ON_SUCCESS


def header_of(message: bytes) -> Header:
    """Read the header of a message that is to be sent.

    Raises
    ------
    DeliveryRefused
        If it is no HL7 v2 message, has no control id to know the answer by, or asks for no answer:
        it could never be said to have arrived.
    """
    first = message.partition(b"\r")[0]
    fields = first.split(first[3:4] or None) if first.startswith(b"MSH") else []
    try:
        control_id, accept, application = (
            fields[number - 1].decode("ascii") if number <= len(fields) else ""
            for number in (10, 15, 16)
        )
    except UnicodeDecodeError:
        control_id = accept = application = ""
    if not control_id:
        msg = "what is to be sent is no HL7 v2 message with a control id (MSH-10) in ASCII"
        raise DeliveryRefused(msg)
    header = Header(control_id, accept, application)
    if not header.answered:
        msg = "the message asks for no answer (MSH-15, MSH-16): nobody would know that it arrived"
        raise DeliveryRefused(msg)
    return header
