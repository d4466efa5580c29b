"""A request to the authorisation server that is refused."""


class OAuthRefusal(Exception):
    """Refused, with the rule that was broken.

    Parameters
    ----------
    error
        The OAuth error code.
    rule
        The rule, in one sentence.
    status
        HTTP status where the answer is direct.
    broken
        Whether the client broke the rule, rather than met a fault or a choice of a person.
    """

    def __init__(self, *, error: str, rule: str, status: int = 400, broken: bool = True) -> None:
        super().__init__(rule)
        self.error = error
        self.rule = rule
        self.status = status
        self.broken = broken
