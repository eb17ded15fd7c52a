"""
Why a call was not let through, or a policy cannot be used.

    TrunklineError
    ├── CallRefused                the call was understood, and is not to run
    │   ├── PolicyDenied           the policy does not allow it, whoever asks for it
    │   ├── AuthorizationRequired  a person has to approve it first, and can
    │   ├── ApprovalDenied         a person was asked and does not want it
    │   ├── ApprovalsFull          too many calls of one caller wait for a person
    │   ├── ApprovalUnavailable    nobody can be asked now
    │   └── ToolChanged            the tool became another one while a person was asked
    ├── ApprovalError              an approval cannot be decided on
    │   ├── ApprovalNotFound · ApprovalSettled · ApprovalForbidden
    └── PolicyInvalid              policy.toml cannot be used as it is

What is refused here never reached a server: it can be called again without harm.
"""

from datetime import datetime

from trunkline.errors import ConfigError, TrunklineError
from trunkline.models import Json


class CallRefused(TrunklineError):
    """A call that was understood and is not to run. `details` are for programs."""

    code = "call_refused"

    def __init__(self, message: str, **details: str) -> None:
        super().__init__(message)
        self.details: Json = details


class PolicyDenied(CallRefused):
    """The policy does not let this caller call this tool."""

    code = "policy_denied"

    def __init__(self, server: str, tool: str, reason: str) -> None:
        super().__init__(
            f"The tool {tool!r} of {server!r} may not be called: {reason}. "
            f"Whoever keeps policy.toml can allow it.",
            server=server,
        )


class AuthorizationRequired(CallRefused):
    """A person has to approve the call. `id` names the request, open until `expires_at`."""

    code = "AUTHORIZATION_REQUIRED"

    def __init__(
        self, id_: str, server: str, tool: str, *, risk: str, expires_at: datetime
    ) -> None:
        until = expires_at.isoformat(timespec="seconds")
        super().__init__(
            f"A person has to approve this call of {tool!r} of {server!r} ({risk} risk) before it "
            f"runs: `trunkline approve {id_}`, the API, or the console, before {until}. "
            f"Then call it again with the same arguments.",
            id=id_,
            expires_at=until,
            risk=risk,
            server=server,
        )
        self.id, self.expires_at = id_, expires_at


class ApprovalDenied(CallRefused):
    """A person was asked, and does not want the call."""

    code = "approval_denied"


class ApprovalsFull(CallRefused):
    """So many calls of one caller wait for a person that no more are taken."""

    code = "approvals_full"


class ApprovalUnavailable(CallRefused):
    """The call needs an approval, and there is no way to ask for one now."""

    code = "approval_unavailable"


class ToolChanged(CallRefused):
    """The tool became another one while a person was being asked about it."""

    code = "tool_changed"


class ApprovalError(TrunklineError):
    """An approval cannot be decided on."""

    code = "approval_error"


class ApprovalNotFound(ApprovalError):
    """There is no such request, or none that this person may see."""

    code = "approval_not_found"


class ApprovalSettled(ApprovalError):
    """The request was decided on before, was used up, or has expired."""

    code = "approval_settled"


class ApprovalForbidden(ApprovalError):
    """This person may not decide on the request."""

    code = "approval_forbidden"


class PolicyInvalid(ConfigError):
    """policy.toml cannot be used as it is."""

    code = "policy_invalid"
