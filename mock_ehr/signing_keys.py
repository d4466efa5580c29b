"""The EHR's own keys: one for id tokens, one for the tokens of its CDS client."""

from dataclasses import dataclass, field
from typing import Any

from joserfc.jwk import ECKey, RSAKey

_RSA_BITS = 2048


def _rsa_key() -> RSAKey:
    return RSAKey.generate_key(_RSA_BITS, {"kid": "ehr-id-token-1", "use": "sig", "alg": "RS256"})


def _ec_key() -> ECKey:
    return ECKey.generate_key("P-384", {"kid": "ehr-cds-1", "use": "sig", "alg": "ES384"})


@dataclass(frozen=True, slots=True)
class SigningKeys:
    """Fresh keys for the life of one EHR; no two EHRs share any."""

    id_token: RSAKey = field(default_factory=_rsa_key)
    cds: ECKey = field(default_factory=_ec_key)


def key_set(key: RSAKey | ECKey) -> dict[str, Any]:
    """Give the JSON Web Key Set with the public half of one key."""
    return {"keys": [key.as_dict(private=False)]}
