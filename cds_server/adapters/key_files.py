"""Signing keys in files that only this server's user may read."""

import json
import os
import stat
import tempfile
import threading
from pathlib import Path

from joserfc.errors import JoseError
from joserfc.jwk import ECKey, RSAKey

from cds_server.errors import InvalidSettings
from cds_server.oauth.bounded_json import json_object
from cds_server.oauth.signing_keys import KeyRing, SigningKey

_CURVE = "P-384"
_RSA_BITS = 3072
_LARGEST_BYTES = 64 * 1024
_NOT_OURS = stat.S_IRWXG | stat.S_IRWXO
_WRITABLE = stat.S_IWGRP | stat.S_IWOTH


class KeyFiles:
    """Makes the keys when they are first needed; from then on they stay.

    However many processes begin at once, one makes each key and all read that one. A file that is
    damaged, or open to other users, is refused and never replaced: the EHRs know its public half.

    Parameters
    ----------
    folder
        Where ``smart-es384.jwk`` and ``smart-rs384.jwk`` are.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._lock = threading.Lock()
        self._ring: KeyRing | None = None

    def private(self, algorithm: str) -> SigningKey:
        """Give the private key of an algorithm.

        Raises
        ------
        InvalidSettings
            If there is no such key, or a file cannot be made, read or trusted.
        """
        return self._keys().private(algorithm)

    def public_jwks(self) -> dict[str, object]:
        """Give the key set to publish.

        Raises
        ------
        InvalidSettings
            If a file cannot be made, read or trusted.
        """
        return self._keys().public_jwks()

    def _keys(self) -> KeyRing:
        with self._lock:
            if self._ring is None:
                _make_folder(self._folder)
                self._ring = KeyRing(
                    {"ES384": self._key("ES384"), "RS384": self._key("RS384")},
                )
            return self._ring

    def _key(self, algorithm: str) -> SigningKey:
        """Read a key, made first if there is none.

        Raises
        ------
        InvalidSettings
            If the file cannot be made, read or trusted.
        """
        path = self._folder / f"smart-{algorithm.lower()}.jwk"
        try:
            if not os.path.lexists(path):
                _publish(path, _generated(algorithm))
            return _read(path, algorithm)
        except OSError as error:
            msg = f"the signing key {path} cannot be used ({error.strerror})"
            raise InvalidSettings(msg) from error


def _make_folder(folder: Path) -> None:
    """Make the folder for this user alone.

    Raises
    ------
    InvalidSettings
        If it cannot be made, or others may put files there.
    """
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        folder.mkdir(mode=0o700, exist_ok=True)
        mode = folder.stat().st_mode
    except OSError as error:
        msg = f"the folder of the signing keys, {folder}, cannot be made ({error.strerror})"
        raise InvalidSettings(msg) from error
    if mode & _WRITABLE:
        msg = f"others may write into the folder of the signing keys: chmod 700 {folder}"
        raise InvalidSettings(msg)


def _generated(algorithm: str) -> SigningKey:
    key: SigningKey
    key = ECKey.generate_key(_CURVE) if algorithm == "ES384" else RSAKey.generate_key(_RSA_BITS)
    key.ensure_kid()
    return key


def _publish(path: Path, key: SigningKey) -> None:
    """Put a key in its place, whole and at once, unless another process was first."""
    descriptor, name = tempfile.mkstemp(dir=path.parent)  # mode 0600
    temporary = Path(name)
    try:
        with os.fdopen(descriptor, "wb") as handle:
            handle.write(json.dumps(key.as_dict(private=True)).encode())
            handle.flush()
            os.fsync(handle.fileno())
        try:
            path.hardlink_to(temporary)
        except FileExistsError:
            return
    finally:
        temporary.unlink(missing_ok=True)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _read(path: Path, algorithm: str) -> SigningKey:
    """Read a key file.

    Raises
    ------
    InvalidSettings
        If others may read it, or it does not hold the key that it should.
    """
    with os.fdopen(os.open(path, os.O_RDONLY | os.O_NOFOLLOW), "rb") as handle:
        if os.fstat(handle.fileno()).st_mode & _NOT_OURS:
            msg = f"other users may use the signing key: chmod 600 {path}, or better make a new one"
            raise InvalidSettings(msg)
        content = handle.read(_LARGEST_BYTES)
    try:
        key = _imported(content, algorithm)
    except (JoseError, ValueError, TypeError, KeyError):
        key = None  # whatever is told of the cause could hold a part of the key
    if key is None or key.kid != key.thumbprint():
        msg = (
            f"the signing key {path} is damaged: restore it, or remove it and have the new public "
            "key registered"
        )
        raise InvalidSettings(msg)
    return key


def _imported(content: bytes, algorithm: str) -> SigningKey | None:
    """Read a private key of the right kind, or give ``None``."""
    value = {name: each for name, each in json_object(content).items() if isinstance(each, str)}
    if algorithm == "ES384":
        curve_key = ECKey.import_key({**value})
        return curve_key if curve_key.is_private and curve_key.curve_name == _CURVE else None
    rsa_key = RSAKey.import_key({**value})
    private = rsa_key.private_key
    return rsa_key if private is not None and private.key_size >= _RSA_BITS else None
