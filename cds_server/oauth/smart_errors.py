"""Why a SMART launch goes no further.

::

    LaunchRefused            an EHR's answer is not as it must be
    └── RefusedByEhr         its authorisation server said no

Each message is a sentence for the user: it holds no token, no patient data, and of the other
server's text at most an OAuth error code.
"""

from cds_server.errors import CdsServerError


class LaunchRefused(CdsServerError):
    """The launch or sign-in goes no further. The message is fit for the user."""


class RefusedByEhr(LaunchRefused):
    """The authorisation server refused.

    Parameters
    ----------
    message
        A sentence for the user.
    code
        The OAuth error code, such as ``invalid_grant``; empty if it sent none that can be shown.
    """

    def __init__(self, message: str, code: str) -> None:
        super().__init__(message)
        self.code = code
