"""Who may publish a model: Ed25519 keys, and the signature of a manifest."""

import base64
import binascii
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from ai_engine.errors import ModelUnavailable

_CONTEXT = b"radcds model manifest\n"
"""Precedes what is signed: a signature made for anything else never fits a manifest."""
_KEY_BYTES = 32
_NO_SIGNATURE = "manifest.sig is not a signature; get the bundle again from its publisher"


@dataclass(frozen=True, slots=True)
class Publishers:
    """Those whose models are run.

    Parameters
    ----------
    keys
        Name of a publisher → raw public key, 32 bytes.
    """

    keys: Mapping[str, bytes]

    @classmethod
    def trusted(cls, also: Path | None = None) -> Self:
        """Give the publisher of the models that ship, and those of a file of the site.

        Parameters
        ----------
        also
            A JSON object: name → base64 of the raw public key.

        Raises
        ------
        ModelUnavailable
            If a file cannot be read, is no such object, or names a publisher that there is already.
        """
        keys = _read(Path(__file__).parent / "bundles" / "publishers.json")
        for name, key in (_read(also) if also else {}).items():
            if keys.setdefault(name, key) != key:
                msg = f"{also}: {name!r} is the name of another publisher already; choose another"
                raise ModelUnavailable(msg)
        return cls(keys)

    def who_signed(self, manifest: bytes, signature: bytes) -> str:
        """Give the name of the publisher that signed a manifest.

        Parameters
        ----------
        manifest
            Bytes of ``manifest.json``.
        signature
            Bytes of ``manifest.sig``, of ``sign``.

        Raises
        ------
        ModelUnavailable
            If the publisher is not trusted, or the signature does not fit.

        References
        ----------
        RFC 8032, Ed25519.
        """
        try:
            said = json.loads(signature)
            name, signed = str(said["publisher"]), base64.b64decode(said["ed25519"], validate=True)
        except (ValueError, KeyError, TypeError) as error:
            raise ModelUnavailable(_NO_SIGNATURE) from error
        if signature != _written(name, signed):
            raise ModelUnavailable(_NO_SIGNATURE)
        if name not in self.keys:
            msg = (
                f"it is signed by {name!r}, who is not trusted here; if they should be, put their "
                "public key into the file that RADCDS_MODEL_PUBLISHERS names"
            )
            raise ModelUnavailable(msg)
        try:
            Ed25519PublicKey.from_public_bytes(self.keys[name]).verify(signed, _CONTEXT + manifest)
        except InvalidSignature as error:
            msg = (
                f"manifest.json is not what {name!r} signed; get the bundle again from its "
                "publisher"
            )
            raise ModelUnavailable(msg) from error
        return name


@dataclass(frozen=True, slots=True)
class SigningKey:
    """The private key of a publisher.

    Parameters
    ----------
    publisher
        Name under which the public key is trusted.
    key
        Ed25519.
    """

    publisher: str
    key: Ed25519PrivateKey

    @classmethod
    def from_file(cls, publisher: str, path: Path) -> Self:
        """Read a private key from a PEM file, as ``openssl genpkey -algorithm ed25519`` writes it.

        Raises
        ------
        ModelUnavailable
            If the file cannot be read or holds no Ed25519 key.
        """
        try:
            key = load_pem_private_key(path.read_bytes(), password=None)
        except OSError as error:
            msg = f"the signing key {path} cannot be read ({error.strerror})"
            raise ModelUnavailable(msg) from error
        except (ValueError, TypeError) as error:
            msg = f"the signing key {path} is no unencrypted private key in PEM"
            raise ModelUnavailable(msg) from error
        if not isinstance(key, Ed25519PrivateKey):
            msg = f"the signing key {path} is not of Ed25519"
            raise ModelUnavailable(msg)
        return cls(publisher, key)

    @property
    def public(self) -> str:
        """The public key as it stands in a file of publishers."""
        return base64.b64encode(self.key.public_key().public_bytes_raw()).decode()

    def sign(self, manifest: bytes) -> bytes:
        """Write ``manifest.sig``: deterministic."""
        return _written(self.publisher, self.key.sign(_CONTEXT + manifest))


def _written(publisher: str, signed: bytes) -> bytes:
    """Write a signature, in the one way that is accepted."""
    value = {"publisher": publisher, "ed25519": base64.b64encode(signed).decode()}
    return (json.dumps(value, indent=2) + "\n").encode()


def _read(path: Path) -> dict[str, bytes]:
    remedy = 'It must be a JSON object such as {"name": "base64 of a raw Ed25519 public key"}'
    try:
        keys = json.loads(path.read_bytes())
        decoded = {name: base64.b64decode(key, validate=True) for name, key in keys.items()}
    except OSError as error:
        msg = f"the publishers of models {path} cannot be read ({error.strerror})"
        raise ModelUnavailable(msg) from error
    except (ValueError, TypeError, AttributeError, binascii.Error) as error:
        msg = f"the publishers of models {path} make no sense. {remedy}"
        raise ModelUnavailable(msg) from error
    if wrong := [name for name, key in decoded.items() if len(key) != _KEY_BYTES]:
        msg = f"the publishers of models {path}: the key of {wrong[0]!r} is not 32 bytes. {remedy}"
        raise ModelUnavailable(msg)
    return decoded
