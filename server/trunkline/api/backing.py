"""What the API stands on: all that its routes may reach, and nothing else."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from trunkline.catalog.administration import Administration
from trunkline.errors import OrgNotFound
from trunkline.models import Principal
from trunkline.security.audit.entries import Event
from trunkline.security.pins.review import Case, PinReview
from trunkline.storage.pool import Database
from trunkline.storage.repositories.orgs import OrgRepository
from trunkline.storage.repositories.pins import PinRow
from trunkline.storage.rows import Org


@dataclass(frozen=True, slots=True, kw_only=True)
class Backing:
    """The running program, as the API sees it."""

    administration: Administration
    database: Database
    review: PinReview
    case_of: Callable[[str | None, PinRow], Case]
    """A pin of an organisation, as the policy has it looked at."""

    record: Callable[[Event], None]
    """Told of everything that somebody does or is refused."""

    room: Callable[[Principal], Awaitable[None]]
    """Returns when what somebody is about to do can be recorded; raises if it cannot."""

    async def scope_of(self, org: str | None) -> Org:
        """The id of an organisation. Raises `OrgNotFound` and `StorageError`."""
        if org is None:
            return None
        orgs = await OrgRepository(self.database).list_all()
        if org not in orgs:
            raise OrgNotFound(org)
        return orgs[org]
