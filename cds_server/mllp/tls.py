"""TLS 1.3 for HL7 connections, from files that may be replaced while the server runs."""

import ssl
from dataclasses import dataclass
from pathlib import Path

from cds_server.errors import InvalidSettings

Named = tuple[str, str]


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """Where certificates are, in PEM. They are read again for each new connection.

    Parameters
    ----------
    ca
        Authorities that the other side's certificate has to come from. ``None`` as a client: those
        that the system trusts; as a server: clients need no certificate.
    certificate
        Own certificate, with those between it and the authority; a client may have none.
    key
        Its private key, without a passphrase; ``None`` where it stands in the file of the
        certificate.
    """

    ca: Path | None = None
    certificate: Path | None = None
    key: Path | None = None

    def client(self) -> ssl.SSLContext:
        """Read the files as a client: the server's certificate and name are verified.

        Raises
        ------
        InvalidSettings
            If a file cannot be read, or is not what it has to be.
        """
        return self._read(ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT))

    def server(self) -> ssl.SSLContext:
        """Read the files as a server; where there is a ``ca``, no client comes in without.

        Raises
        ------
        InvalidSettings
            If there is no certificate, a file cannot be read, or is not what it has to be.
        """
        if self.certificate is None:
            msg = "who listens with TLS has a certificate: name its file"
            raise InvalidSettings(msg)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.num_tickets = 0  # whoever comes again shows a certificate again
        if self.ca is not None:
            context.verify_mode = ssl.CERT_REQUIRED
        return self._read(context)

    def _read(self, context: ssl.SSLContext) -> ssl.SSLContext:
        """Load the files.

        Raises
        ------
        InvalidSettings
            If one cannot be read, or is not what it has to be.
        """
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        if context.check_hostname:
            context.hostname_checks_common_name = False
        try:
            if self.ca is not None:
                context.load_verify_locations(self.ca)
            elif context.verify_mode is ssl.CERT_REQUIRED:
                context.load_default_certs()
            if self.certificate is not None:
                # An empty passphrase: OpenSSL would ask for one on the terminal, and wait.
                context.load_cert_chain(self.certificate, self.key, password="")
        except (OSError, ValueError) as error:
            msg = (
                f"the TLS files {self._named()} cannot be used "
                f"({getattr(error, 'reason', '') or getattr(error, 'strerror', '') or error}); "
                "each is PEM, and the key has no passphrase and belongs to the certificate"
            )
            raise InvalidSettings(msg) from error
        return context

    def _named(self) -> str:
        return ", ".join(str(each) for each in (self.ca, self.certificate, self.key) if each)


def verified_name(secure: ssl.SSLSocket) -> str:
    """Give who the other side is: the first DNS name of its verified certificate, else its name."""
    certificate = secure.getpeercert() or {}
    alternatives: tuple[Named, ...] = certificate.get("subjectAltName", ())  # type: ignore[assignment]
    subject: tuple[tuple[Named, ...], ...] = certificate.get("subject", ())  # type: ignore[assignment]
    names = [value for kind, value in alternatives if kind == "DNS"]
    names += [value for part in subject for kind, value in part if kind == "commonName"]
    return next(iter(names), "")
