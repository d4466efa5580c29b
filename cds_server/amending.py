"""A result after it was published: a radiologist signs it, or its model version is recalled.

Either way something is published again, under the same identifiers in FHIR, as a later message in
HL7 and a later report in the PACS; it waits its turn behind what was published before.
"""

import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from ai_engine.result import NotAnalysed
from cds_server.amendments import Amendment, AmendmentStore, RecallAsked, SignOffAsked
from cds_server.errors import ResultNotFound
from cds_server.inbox import Inbox, KeptReport
from cds_server.outbox import Outbox, Publication, order_key
from cds_server.ports import Clock, ResultStore, StoredResult
from cds_server.report_messages import context_of, oru_of
from fhir_mappers import codes
from fhir_mappers.amended_card import signed_card, withdrawn_card
from fhir_mappers.amended_objects import signed_report, withdrawn_objects
from fhir_mappers.audit_event import AuditFact, AuditKind, audit_event
from fhir_mappers.dicom_sr import REPORT
from fhir_mappers.hl7_dialect import Hl7Dialect
from fhir_mappers.hl7_inbound.reported import InboundReport, ReportStatus
from fhir_mappers.recall import recalled_bundle
from fhir_mappers.report_context import ReportContext, ReportSet, SignOff, Site, Verdict
from fhir_mappers.transaction import replaced, sign_off_bundle

_REPORTS_AT_ONCE = 100
_VERDICTS = {
    ReportStatus.FINAL: Verdict.CONFIRMED,
    ReportStatus.CORRECTED: Verdict.CORRECTED,
}


@dataclass(frozen=True, slots=True)
class _Published:
    """A result as it was published last.

    ``bundle`` has every resource, in its latest state.
    """

    result: StoredResult
    amendments: Sequence[Amendment]
    original: ReportSet
    latest: ReportSet
    bundle: bytes

    @property
    def recalled(self) -> bool:
        return any(each.recall for each in self.amendments)

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

    def look(self) -> int:
        """Publish what was asked for since the last look, and say how many results changed."""
        for kept in self._inbox.reports(limit=_REPORTS_AT_ONCE):
            if self._reports_sign:
                self._ask(kept)
            self._inbox.settle_report(kept.report_id, at=self._clock.now())
        signed = sum(self._sign(each) for each in self._amendments.sign_offs_asked())
        return signed + sum(
            self._withdraw(identifier, asked)
            for asked in self._amendments.recalls()
            for identifier in self._amendments.to_recall(asked.model_sha256)
        )

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
            (each for each in results if each and each.study.patient.patient_id in numbers), None
        )

    def _sign(self, asked: SignOffAsked) -> bool:
        published = self._published(asked.result_id)
        if published is None or published.recalled:
            why = "is not there" if published is None else "was recalled before it was signed"
            self._note("sign-off", f"A sign-off was not published: its result {why}.")
            self._amendments.answer_sign_off(asked.request_id)
            return False
        number = len(published.amendments) + 1
        signed = replace(asked.signed, number=number)
        context = replace(self._context(published.result), signed=signed)
        self._amendments.amend(
            Amendment(self._publication(published.result, f"amendment|{number}"), number, signed),
            self._signed_set(published, signed, context),
            audit_events=[self._sign_off_leaf(published.result, signed, asked.source)],
            destinations=self._destinations,
        )
        self._amendments.answer_sign_off(asked.request_id)
        return True

    def _signed_set(
        self, published: _Published, signed: SignOff, context: ReportContext
    ) -> ReportSet:
        result = replace(published.result, signed=signed)
        original, objects = published.original, published.objects
        report = objects.get(REPORT.name)
        return ReportSet(
            bundle=sign_off_bundle(
                result.study,
                result.outcome,
                context=context,
                shows_overlay=original.overlay_png is not None,
                published=original.bundle,
            ),
            oru=self._oru(result, original),
            card=signed_card(original.card, signed),
            overlay_png=original.overlay_png,
            dicom={REPORT.name: signed_report(report, signed, context)} if report else {},
        )

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
        result = replace(published.result, recall=recall)
        artefacts = ReportSet(
            bundle=recalled_bundle(published.bundle, site=self._site, recall=recall),
            oru=self._oru(result, published.original),
            card=withdrawn_card(published.original.card, recall),
            dicom=withdrawn_objects(published.objects, result.study, recall, self._context(result)),
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
        latest, bundle = original, original.bundle
        for each in amendments:
            latest = self._store.artefacts(each.publication.publication_id)
            bundle = replaced(bundle, latest.bundle)
        return _Published(result, amendments, original, latest, bundle)

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
