"""What every endpoint of the EHR shares."""

from dataclasses import dataclass

import httpx

from mock_ehr.addresses import Addresses
from mock_ehr.fhir_store import FhirStore
from mock_ehr.ledger import Ledger
from mock_ehr.registration import AppRegistration
from mock_ehr.signing_keys import SigningKeys


@dataclass(frozen=True, slots=True)
class Office:
    """One EHR's addresses, registered app, memory, keys, records and way out."""

    addresses: Addresses
    registration: AppRegistration
    ledger: Ledger
    keys: SigningKeys
    store: FhirStore
    http: httpx.Client
