"""A result after it was published: a radiologist signs it, or its model version is recalled.

Either way something is published again, under the same identifiers in FHIR, as a later message in
HL7 and a later report in the PACS; it waits its turn behind what was published before.
"""

import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import orjson

from ai_engine.result import NotAnalysed, TriageResult
from cds_server.amendments import Amendment, AmendmentStore, RecallAsked, SignOffAsked
from cds_server.errors import DeliveryRefused, ResultNotFound
from cds_server.inbox import Inbox, KeptReport
from cds_server.outbox import Outbox, Publication, order_key
from cds_server.ports import Clock, ResultStore, StoredResult
from cds_server.report_messages import context_of, oru_of
from fhir_mappers import codes
from fhir_mappers.amended_card import signed_card, withdrawn_card
from fhir_mappers.amended_objects import signed_objects, withdrawn_objects
from fhir_mappers.audit_event import AuditFact, AuditKind, audit_event
from fhir_mappers.cds_card import card_response
from fhir_mappers.errors import MapperError
from fhir_mappers.hl7_dialect import Hl7Dialect
from fhir_mappers.hl7_inbound.reported import InboundReport, ReportStatus
from fhir_mappers.recall import recalled_bundle
from fhir_mappers.report_context import (
    DisplayMode,
    ReportContext,
    ReportSet,
    SignOff,
    Site,
    Verdict,
)
from fhir_mappers.transaction import replaced, sign_off_bundle

_REPORTS_AT_ONCE = 100
_VERDICTS = {
    ReportStatus.FINAL: Verdict.CONFIRMED,
    ReportStatus.CORRECTED: Verdict.CORRECTED,
}


@dataclass(frozen=True, slots=True)
class _Published:
    """A result as it was published last.

    ``bundle`` has every resource, in its latest state; ``every_object`` each DICOM file there was.
    """

    result: StoredResult
    amendments: Sequence[Amendment]
    original: ReportSet
    latest: ReportSet
    bundle: bytes
    every_object: Sequence[bytes]

    @property
    def recalled(self) -> bool:
        return any(each.recall for each in self.amendments)

    @property
    def signed(self) -> SignOff | None:
        return next((each.signed for each in reversed(self.amendments) if each.signed), None)

    @property
    def objects(self) -> dict[str, bytes]:
        return {**self.original.dicom, **self.latest.dicom}


class Amending:
    """Publishes what changes results afterwards.

    Parameters
    ----------
    store, amendments
        Results, and what changed them.
    inbox, outbox
        Reports that came in, and what was published under which accession number.
    destinations
        Names of everyone who gets results.
    site, clock, software_version
        Who publishes, and when.
    reports_sign
        Whether a report that comes in signs the AI's result of its study.
    note
        Told of a sign-off that cannot be published: the name of a part, and the trouble.
    """

    def __init__(  # noqa: PLR0913 - every collaborator, by name
        self,
        store: ResultStore,
        amendments: AmendmentStore,
        *,
        inbox: Inbox,
        outbox: Outbox,
        destinations: Sequence[str],
        site: Site,
        clock: Clock,
        software_version: str,
        reports_sign: bool = False,
        note: Callable[[str, str], object] = lambda *_: None,
    ) -> None:
        self._store = store
        self._amendments = amendments
        self._inbox = inbox
        self._outbox = outbox
        self._reports_sign = reports_sign
        self._destinations = tuple(destinations)
        self._site = site
        self._clock = clock
        self._software_version = software_version
        self._note = note
        self._in_vain: set[str] = set()

    def look(self) -> int:
        """Publish what was asked for since the last look, and say how many results changed.

        What cannot be published is told once, and keeps nothing else from it.
        """
        for kept in self._inbox.reports(limit=_REPORTS_AT_ONCE):
            if self._reports_sign:
                self._ask(kept)
            self._inbox.settle_report(kept.report_id, at=self._clock.now())
        return sum(self._answered(each) for each in self._amendments.sign_offs_asked()) + sum(
            self._taken_back(identifier, asked)
            for asked in self._amendments.recalls()
            for identifier in self._amendments.to_recall(asked.model_sha256)
        )

    def _answered(self, asked: SignOffAsked) -> bool:
        try:
            done = self._sign(asked)
        except (MapperError, DeliveryRefused) as error:
            self._note("sign-off", f"A sign-off cannot be published: {error}")
            done = False
        self._amendments.answer_sign_off(asked.request_id)
        return done

    def _taken_back(self, identifier: str, asked: RecallAsked) -> bool:
        if identifier in self._in_vain:
            return False
        try:
            return self._withdraw(identifier, asked)
        except (MapperError, DeliveryRefused) as error:
            self._in_vain.add(identifier)
            self._note("recall", f"Result {identifier} cannot be taken back: {error}")
            return False

    # ── A radiologist signs ──────────────────────────────────────────────────────────────────────

    def _ask(self, kept: KeptReport) -> None:
        """Take a final or corrected report for the radiologist's word on the AI's result."""
        report, source = kept.report, f"HL7 report {kept.report_id}"
        if any(each.source == source for each in self._amendments.sign_offs_asked()):
            return
        verdict = _VERDICTS.get(report.status)
        result = self._reported(report)
        if verdict is None or result is None or report.radiologist is None:
            return
        person = report.radiologist
        signed = SignOff(
            number=0,
            verdict=verdict,
            at=report.reported or kept.received,
            radiologist=person.name or person.identifier.value,
            identifier=(next(iter(person.identifier.authorities), ""), person.identifier.value),
            statement="\n".join(report.words),
        )
        asked = SignOffAsked("", result.result_id, signed, source)
        detail = {"report": report.status.value, "source": source}
        leaf = self._leaf(result, signed.radiologist, detail)
        self._amendments.ask_sign_off(asked, audit_events=[leaf])

    def _reported(self, report: InboundReport) -> StoredResult | None:
        """Find the latest result that a report is about: of that study, and of that patient."""
        if report.study_instance_uid:
            entries = self._store.entries_of_study(report.study_instance_uid)
        elif report.accession_number:
            key = order_key(self._site.accession_issuer, report.accession_number, "")
            found = self._outbox.deliveries(order_key=key)
            ids = list(dict.fromkeys(each.publication.result_id for each in found))
            entries = [self._store.entry(each) for each in reversed(ids)]
        else:
            return None
        numbers = {each.value for each in report.patient.identifiers}
        results = (each.result for each in entries if not each.superseded)
        return next(
            (
                each
                for each in results
                if each
                and each.study.patient.patient_id in numbers
                and isinstance(each.outcome, TriageResult)
            ),
            None,
        )

    def _sign(self, asked: SignOffAsked) -> bool:
        published = self._published(asked.result_id)
        if published is None or published.recalled:
            why = "is not there" if published is None else "was recalled before it was signed"
            self._note("sign-off", f"A sign-off was not published: its result {why}.")
            return False
        number = len(published.amendments) + 1
        signed = _following(published.signed, replace(asked.signed, number=number))
        if signed is None:
            return False
        context = replace(self._context(published.result), signed=signed)
        self._amendments.amend(
            Amendment(
                self._publication(published.result, f"sign-off|{asked.request_id}"), number, signed
            ),
            self._signed_set(published, signed, context),
            audit_events=[self._sign_off_leaf(published.result, signed, asked.source)],
            destinations=self._destinations,
        )
        self._note("sign-off", "")
        return True

    def _signed_set(
        self, published: _Published, signed: SignOff, context: ReportContext
    ) -> ReportSet:
        """Give everything again, as it stands now: whoever missed the first gets it all."""
        result = replace(published.result, signed=signed)
        picture = published.original.overlay_png if self._shows_overlays else None
        later = sign_off_bundle(
            result.study,
            result.outcome,
            context=context,
            shows_overlay=picture is not None,
            published=published.bundle,
        )
        return ReportSet(
            bundle=replaced(published.bundle, later) if self._shows_overlays else later,
            oru=self._oru(result, replace(published.original, overlay_png=picture)),
            card=signed_card(self._card(published, shown=_is_corrected(signed)), signed),
            overlay_png=picture,
            dicom=self._signed_objects(published, signed, context),
        )

    def _signed_objects(
        self, published: _Published, signed: SignOff, context: ReportContext
    ) -> dict[str, bytes]:
        again = signed_objects(published.objects, signed, context)
        kept = published.objects if again and self._shows_overlays else {}
        return {**kept, **again}

    def _card(self, published: _Published, *, shown: bool) -> bytes:
        """Give the card of a result; where a site has none of what is normal, one is made."""
        card = published.original.card
        if not shown or orjson.loads(card)["cards"]:
            return card
        result = published.result
        context = replace(self._context(result), site=replace(self._site, silent_when_normal=False))
        return orjson.dumps(card_response(result.study, result.outcome, context=context))

    @property
    def _shows_overlays(self) -> bool:
        return self._site.display_mode is DisplayMode.OVERLAY

    def _sign_off_leaf(self, result: StoredResult, signed: SignOff, source: str) -> bytes:
        """Record who signed what, and whether the AI had it right."""
        confirmed = signed.verdict is Verdict.CONFIRMED
        detail = {
            "sign-off": signed.verdict.value,
            "number": str(signed.number),
            "source": source,
            "ai-result": codes.triage(result.outcome).code,
            "concordance": "concordant" if confirmed else "discordant",
        }
        return self._leaf(result, signed.radiologist, detail)

    # ── A model version is recalled ──────────────────────────────────────────────────────────────

    def _withdraw(self, identifier: str, asked: RecallAsked) -> bool:
        published = self._published(identifier)
        if (
            published is None
            or published.recalled
            or isinstance(published.result.outcome, NotAnalysed)
        ):
            return False
        number, recall = len(published.amendments) + 1, asked.recall
        result = replace(published.result, recall=recall, signed=published.signed)
        artefacts = ReportSet(
            bundle=recalled_bundle(published.bundle, site=self._site, recall=recall),
            oru=self._oru(result, published.original),
            card=withdrawn_card(self._card(published, shown=True), recall),
            dicom=withdrawn_objects(
                published.objects,
                result.study,
                recall,
                self._context(result),
                earlier=published.every_object,
            ),
        )
        detail = {"recalled-model-sha256": asked.model_sha256, "reason": recall.reason}
        self._amendments.amend(
            Amendment(self._publication(result, f"amendment|{number}"), number, recall=recall),
            artefacts,
            audit_events=[self._leaf(result, asked.by, detail)],
            destinations=self._destinations,
        )
        return True

    # ── Both ─────────────────────────────────────────────────────────────────────────────────────

    def _published(self, identifier: str) -> _Published | None:
        """Give what was published of a result; ``None`` where nothing was."""
        try:
            result = self._store.entry(identifier).result
        except ResultNotFound:
            return None
        if result is None or result.shadow:
            return None
        amendments = self._amendments.amendments(identifier)
        original = self._store.artefacts(identifier)
        latest, bundle, objects = original, original.bundle, [*original.dicom.values()]
        for each in amendments:
            latest = self._store.artefacts(each.publication.publication_id)
            bundle = replaced(bundle, latest.bundle)
            objects += latest.dicom.values()
        return _Published(result, amendments, original, latest, bundle, objects)

    def _publication(self, result: StoredResult, part: str) -> Publication:
        study = result.study
        return Publication(
            str(uuid.uuid5(uuid.UUID(result.result_id), part)),
            result.result_id,
            study.study_instance_uid,
            order_key(
                self._site.accession_issuer, study.accession_number, study.study_instance_uid
            ),
            self._clock.now(),
        )

    def _context(self, result: StoredResult) -> ReportContext:
        return context_of(result, self._site, self._software_version)

    def _oru(self, result: StoredResult, original: ReportSet) -> bytes:
        compose = oru_of(
            Hl7Dialect.of(self._site), site=self._site, software_version=self._software_version
        )
        return compose(result, original)

    def _leaf(self, result: StoredResult, user: str, detail: dict[str, str]) -> bytes:
        patient = result.study.patient
        fact = AuditFact(
            kind=AuditKind.FEEDBACK,
            recorded=self._clock.now(),
            user=user,
            address=self._site.base_url,
            study_instance_uid=result.study.study_instance_uid,
            result_id=result.result_id,
            patient_id=patient.patient_id or None,
            patient_issuer=patient.issuer,
            detail=detail,
        )
        return audit_event(fact, self._site)


def _is_corrected(signed: SignOff) -> bool:
    return signed.verdict is Verdict.CORRECTED


def _following(earlier: SignOff | None, signed: SignOff) -> SignOff | None:
    """Give what a sign-off says after an earlier one; ``None`` where it says nothing new.

    Who confirms what was corrected confirms the correction.
    """
    if earlier is None:
        return signed
    same = (earlier.verdict, earlier.radiologist, earlier.statement)
    if (signed.verdict, signed.radiologist, signed.statement) == same:
        return None
    if _is_corrected(earlier) and not _is_corrected(signed):
        statement = "\n".join(each for each in (earlier.statement, signed.statement) if each)
        return replace(signed, verdict=Verdict.CORRECTED, statement=statement)
    return signed
