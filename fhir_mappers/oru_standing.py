"""How a result stands, and what that makes of the status fields of its message.

=====================  ======  ==========================  =======================
the result is          OBR-25  OBX-11 of the AI            OBX-11 of what is added
=====================  ======  ==========================  =======================
the AI's alone         P       P                           none
not analysed           I       X                           none
confirmed              F       F; X where not analysed     F, the radiologist
corrected              C       P, it was not confirmed     C, the radiologist
withdrawn (recall)     C       W                           C, the notice
=====================  ======  ==========================  =======================

Of a withdrawn result that was signed, the radiologist's words keep their status: a model can be
recalled, a radiologist's word cannot. OBR-25 has no code for "wrong"; ``C``, a correction, is what
a receiver must act on, where ``X`` says that the order was cancelled.

References
----------
HL7 v2.5.1 tables 0085 (OBX-11) and 0123 (OBR-25); HL7 v2-to-FHIR maps W to entered-in-error.
"""

from dataclasses import dataclass
from datetime import datetime

from ai_engine.result import NotAnalysed, Outcome
from fhir_mappers.identifiers import resource_id
from fhir_mappers.report_context import Recall, ReportContext, SignOff, Verdict


@dataclass(frozen=True, slots=True)
class Standing:
    """The status fields of one message.

    Parameters
    ----------
    report
        OBR-25.
    ai
        OBX-11 of what the AI said.
    at
        When it came to stand so: MSH-7 and OBR-22.
    part
        What tells its control id from that of the first message; empty for that.
    signed, signer_status
        The sign-off, and OBX-11 of the radiologist's words.
    recall
        The recall, or ``None``.
    """

    report: str
    ai: str
    at: datetime
    part: str = ""
    signed: SignOff | None = None
    signer_status: str = ""
    recall: Recall | None = None

    @property
    def awaits_reading(self) -> bool:
        """Whether the study still waits for a radiologist, who wants the most urgent first."""
        return self.signed is None and self.recall is None

    @property
    def answers_for_ai(self) -> SignOff | None:
        """Who answers for what the AI said: the radiologist who confirmed it."""
        return self.signed if self.ai == "F" else None


def standing_of(outcome: Outcome, context: ReportContext, recall: Recall | None) -> Standing:
    """Give how a result stands.

    Parameters
    ----------
    outcome
        What the engine said.
    context
        With the latest sign-off.
    recall
        Its recall, or ``None``.
    """
    unread = isinstance(outcome, NotAnalysed)
    signed = context.signed
    verdict = {Verdict.CONFIRMED: "F", Verdict.CORRECTED: "C"}[signed.verdict] if signed else ""
    if recall:
        part = f"recalled|{recall.at.isoformat()}"
        return Standing("C", "W", recall.at, part, signed, verdict, recall)
    alone = "X" if unread else "P"
    if signed:
        ai = "F" if verdict == "F" and not unread else alone
        return Standing(verdict, ai, signed.at, f"signed|{signed.number}", signed, verdict)
    return Standing("I" if unread else "P", alone, context.issued)


def control_id(result_id: str, part: str = "") -> str:
    """Give MSH-10, of 20 hexadecimal digits, as many as version 2.5.1 allows.

    Parameters
    ----------
    result_id
        Of the result: the first message of it has the first digits of its id.
    part
        What tells another message of the same result from the first, such as ``signed|1``.
    """
    named = resource_id(result_id, "ORU", part) if part else result_id
    return named.replace("-", "")[:20].upper()
