"""What the authorisation server remembers, and what it holds against the client."""

import secrets
import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from itertools import chain

ACCESS_LIFE = 300
CODE_LIFE = 60
LAUNCH_LIFE = 3600
FAULTS = frozenset(
    {
        "fewer-scopes",
        "fhir-500",
        "foreign-next-link",
        "id-token-other-audience",
        "id-token-unsigned",
        "no-id-token",
        "refresh-fails",
        "slow-token",
        "token-500",
        "wrong-iss-parameter",
        "wrong-nonce",
        "wrong-state",
    }
)


class Faults(set[str]):
    """Faults that are switched on; a name that is none is an error, for it would prove nothing."""

    def add(self, name: str) -> None:
        """Switch a fault on.

        Raises
        ------
        ValueError
            If there is no such fault.
        """
        if name not in FAULTS:
            msg = f"no such fault: {name}"
            raise ValueError(msg)
        super().add(name)

    def update(self, *names: Iterable[str]) -> None:
        """Switch several faults on."""
        for name in chain.from_iterable(names):
            self.add(name)


@dataclass(frozen=True, slots=True)
class LaunchContext:
    """Who works on whom: what an app is told beside its token."""

    user: str | None = None
    patient: str | None = None
    encounter: str | None = None
    fhir_context: tuple[Mapping[str, object], ...] = ()
    app_context: str | None = None
    need_patient_banner: bool = True


@dataclass(frozen=True, slots=True)
class Grant:
    """What one authorisation allows; ``family`` joins all tokens that come of it."""

    client_id: str
    scopes: tuple[str, ...]
    context: LaunchContext
    family: str


@dataclass(frozen=True, slots=True)
class Code:
    """An authorisation code on its way."""

    grant: Grant
    redirect_uri: str
    challenge: str
    nonce: str | None
    expires: float


@dataclass(frozen=True, slots=True)
class Access:
    """An access token in force."""

    grant: Grant
    issued: float
    expires: float


@dataclass
class Ledger:
    """The memory of one EHR; all of it may be used from several threads.

    Parameters
    ----------
    clock
        Gives the time in seconds since 1970.
    """

    clock: Callable[[], float]
    violations: list[str] = field(default_factory=list)
    faults: Faults = field(default_factory=Faults)
    launches: dict[str, tuple[LaunchContext, float]] = field(default_factory=dict)
    codes: dict[str, Code] = field(default_factory=dict)
    spent: dict[str, str] = field(default_factory=dict)
    access: dict[str, Access] = field(default_factory=dict)
    refresh: dict[str, Grant] = field(default_factory=dict)
    _assertions: set[str] = field(default_factory=set)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def note(self, rule: str) -> None:
        """Write down a rule that the client broke."""
        self.violations.append(rule)

    def faulty(self, name: str) -> bool:
        """Tell whether a fault is switched on."""
        return name in self.faults

    def new_launch(self, context: LaunchContext) -> str:
        """Keep a launch and give its opaque value."""
        value = secrets.token_urlsafe(24)
        self.launches[value] = (context, self.clock() + LAUNCH_LIFE)
        return value

    def launch(self, value: str) -> LaunchContext | None:
        """Find a launch that is still open."""
        context, expires = self.launches.get(value, (None, 0.0))
        return context if expires > self.clock() else None

    def new_code(self, code: Code) -> str:
        """Keep an authorisation code and give its value."""
        value = secrets.token_urlsafe(32)
        self.codes[value] = code
        return value

    def take_code(self, value: str) -> Code | None:
        """Take a code out; a second taker gets none, and the tokens of the first are revoked."""
        with self._lock:
            code = self.codes.pop(value, None)
            family = self.spent.get(value)
            if code is not None:
                self.spent[value] = code.grant.family
        if family is not None:
            self.revoke(family)
        return code

    def new_access(self, grant: Grant) -> str:
        """Issue an access token."""
        value = secrets.token_urlsafe(32)
        now = self.clock()
        self.access[value] = Access(grant, now, now + ACCESS_LIFE)
        return value

    def active(self, value: str) -> Access | None:
        """Find an access token that is in force."""
        access = self.access.get(value)
        return access if access is not None and access.expires > self.clock() else None

    def new_refresh(self, grant: Grant) -> str:
        """Issue a refresh token."""
        value = secrets.token_urlsafe(32)
        self.refresh[value] = grant
        return value

    def take_refresh(self, value: str) -> Grant | None:
        """Take a refresh token out; its second use revokes every token of its family."""
        with self._lock:
            grant = self.refresh.pop(value, None)
            family = self.spent.get(value)
            if grant is not None:
                self.spent[value] = grant.family
        if family is not None:
            self.revoke(family)
        return grant

    def revoke(self, family: str) -> None:
        """End every token of one authorisation."""
        with self._lock:
            for value, access in list(self.access.items()):
                if access.grant.family == family:
                    self.access[value] = replace(access, expires=0.0)
            for value, grant in list(self.refresh.items()):
                if grant.family == family:
                    del self.refresh[value]

    def first_use(self, jti: str) -> bool:
        """Remember the ``jti`` of a client assertion; tell whether it is new."""
        with self._lock:
            new = jti not in self._assertions
            self._assertions.add(jti)
        return new
