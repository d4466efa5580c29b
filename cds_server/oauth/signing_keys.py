"""The keys of this server, with which it proves who it is to authorisation servers."""

from collections.abc import Mapping
from typing import Protocol

from joserfc.jwk import ECKey, RSAKey

from cds_server.errors import InvalidSettings

SigningKey = ECKey | RSAKey

_PUBLIC = ("kty", "crv", "x", "y", "n", "e", "kid")


class SigningKeys(Protocol):
    """Keys by the algorithm that they sign with, ``ES384`` and ``RS384``."""

    def private(self, algorithm: str) -> SigningKey:
        """Give the private key of an algorithm; its ``kid`` is its RFC 7638 thumbprint.

        Raises
        ------
        InvalidSettings
            If there is no such key, or it cannot be used.
        """
        ...

    def public_jwks(self) -> dict[str, object]:
        """Give the JSON Web Key Set to publish.

        Raises
        ------
        InvalidSettings
            If a key cannot be used.
        """
        ...


class KeyRing:
    """Keys that are at hand.

    Parameters
    ----------
    keys
        Private keys by algorithm.
    """

    def __init__(self, keys: Mapping[str, SigningKey]) -> None:
        for key in keys.values():
            key.ensure_kid()
        self._keys = dict(keys)

    def private(self, algorithm: str) -> SigningKey:
        """Give the private key of an algorithm.

        Raises
        ------
        InvalidSettings
            If there is no such key.
        """
        key = self._keys.get(algorithm)
        if key is None:
            msg = f"there is no signing key for {algorithm}: choose {' or '.join(self._keys)}"
            raise InvalidSettings(msg)
        return key

    def public_jwks(self) -> dict[str, object]:
        """Give the key set to publish. Members are named one by one: no private one slips in."""
        return {"keys": [_public(key, algorithm) for algorithm, key in self._keys.items()]}


def _public(key: SigningKey, algorithm: str) -> dict[str, object]:
    held = key.as_dict(private=False)
    public: dict[str, object] = {name: held[name] for name in _PUBLIC if name in held}
    return {**public, "use": "sig", "alg": algorithm}
