"""Ports of the store. Every repository is bound to one organization by the unit of work that gives it out.

Reads see committed data only. The only ways in without an organization are `Directory` (before one is known) and
`SystemWork` (see ports.system). All raise `StoreUnavailable` when the database does not answer.
"""

from collections.abc import Collection, Mapping, Sequence
from typing import Protocol

from heliograph.domain.deliveries import Push
from heliograph.domain.devices import (
    ApiKey,
    Device,
    Enterprise,
    Organization,
    Principal,
    ProviderAccount,
    PushTarget,
)
from heliograph.domain.enrollment import EnrollmentToken, SignUp
from heliograph.domain.ladder import Command, Entry, Issue
from heliograph.ports.changes import ChangeSet, OutboxItem
from heliograph.ports.pages import DeviceFilter, Page, PageQuery
from heliograph.ports.system import SystemWork


class CommandRepository(Protocol):
    """Commands of the organization."""

    async def find(self, command_id: str, device_id: str | None = None) -> Command | None:
        """One command, of the given device if one is named; None where there is none."""
        ...

    async def find_by_receipt(self, receipt: str) -> Command | None:
        """The command that an upstream operation belongs to."""
        ...

    async def list_of_device(self, device_id: str, query: PageQuery) -> Page[Command]:
        """A device's commands; sorts by created_at, updated_at, type, rung."""
        ...

    async def live_of_device(self, device_id: str, limit: int, issue: Issue | None = None) -> list[Command]:
        """A device's commands that are not over, oldest first: all, or those of whose issue this is known. Its cost
        does not grow with history.
        """
        ...

    async def due_to_agent(self, device_id: str, journal: str, now: int, limit: int) -> list[Command]:
        """A device's commands that `Command.is_due_to` is true of, oldest first. Its cost grows with what is live."""
        ...

    async def ended_erasures(self, device_id: str, limit: int) -> list[Command]:
        """A device's commands of the types that may erase it that succeeded or failed, newest first."""
        ...

    async def bound_receipts(self, receipts: Sequence[str]) -> set[str]:
        """Which of these upstream names are bound to commands. The one read that looks beyond the organization: an
        operation that is another's must never be taken for ours.
        """
        ...


class PushRepository(Protocol):
    """Pushes of the organization."""

    async def find(self, push_id: str) -> Push | None:
        """One push."""
        ...

    async def find_with_targets(self, push_id: str) -> tuple[Push, list[PushTarget]] | None:
        """One push, with the addresses of its app on its device, newest first."""
        ...

    async def of_command(self, command_id: str) -> list[Push]:
        """All pushes made for a command, newest first."""
        ...

    async def offers(self, device_id: str, app: str, now: int, limit: int, behind: Push | None = None) -> list[Push]:
        """Pushes of an app that some provider took, neither acknowledged nor expired, oldest first.

        `behind` = the last one of the page before.
        """
        ...

    async def waiting(
        self, account_id: str, priority: int, limit: int, behind: OutboxItem | None = None
    ) -> list[OutboxItem]:
        """The effects owed that send pushes through an account, and that nobody has claimed: those of a priority, in
        the order in which they are due. `behind` = the last one of the page before.
        """
        ...


class HistoryRepository(Protocol):
    """Histories of commands and pushes."""

    async def of(self, subject_ids: Sequence[str]) -> dict[str, list[Entry]]:
        """The entries of each record, oldest first."""
        ...


class DeviceRepository(Protocol):
    """Devices of the organization and the addresses of their apps."""

    async def find(self, platform: str | None, device_id: str) -> Device | None:
        """A device by its platform id or all-platform id (of one platform, or of any), or by those of a record that
        was joined to its own.
        """
        ...

    async def find_with_targets(
        self, platform: str | None, device_id: str, app: str
    ) -> tuple[Device, list[PushTarget]] | None:
        """What `find` and `targets` answer, in one."""
        ...

    async def find_by_alias(self, platform: str, alias: str) -> list[Device]:
        """Devices whose serial number, IMEI or enrollment-specific id is exactly `alias` (at most two are read)."""
        ...

    async def find_by_external_name(self, name: str) -> Device | None:
        """The device that the upstream calls `name`."""
        ...

    async def known_as(self, names: Sequence[str]) -> dict[str, Device]:
        """Of these names, each that the upstream gives to a device of ours, or gave it before, with that device."""
        ...

    async def list(self, platform: str | None, query: PageQuery, only: DeviceFilter | None = None) -> Page[Device]:
        """Devices; sorts by created_at, updated_at, name, state."""
        ...

    async def of_enterprise(self, enterprise_id: str, behind: str, limit: int) -> Sequence[Device]:
        """Devices of an enterprise in the order of their ids; `behind` = the last id of the page before, or empty."""
        ...

    async def targets(self, device_id: str, app: str | None = None) -> Sequence[PushTarget]:
        """The push addresses of a device's apps, newest first; those that are dead included."""
        ...

    async def register(self, device_id: str, app: str, targets: Sequence[PushTarget], now: int) -> None:
        """Replace an app's addresses and note that the device was seen."""
        ...

    async def quarantine(
        self,
        target: PushTarget,
        reason: str,
        since: int,
        now: int,
        account_id: str | None = None,
        made_at: int | None = None,
    ) -> None:
        """Use an address no more, unless it was registered after `since` (microseconds); with `account_id`, which has
        refused it, unless it is reached through another by now, or has changed since `made_at`.
        """
        ...

    async def revive(self, provider: str, since: int, account_id: str | None = None) -> None:
        """Use the addresses at a provider again that were given up since then (microseconds); with `account_id`, those
        that are reached through this account.
        """
        ...


class SetupRepository(Protocol):
    """What an operator sets up in an organization."""

    async def enterprise(self, enterprise_id: str) -> Enterprise | None:
        """One enterprise."""
        ...

    async def enterprises(self) -> list[Enterprise]:
        """All enterprises, oldest first."""
        ...

    async def add_enterprise(self, enterprise: Enterprise) -> None:
        """Store an enterprise; Conflict when its name is taken in this organization."""
        ...

    async def save_enterprise(self, enterprise: Enterprise, changed: Collection[str]) -> None:
        """Overwrite what has `changed` of how an enterprise is reached and heard; credentials and address together."""
        ...

    async def heard_of_enterprise(self, enterprise_id: str, now: int) -> None:
        """Note that a notification has come."""
        ...

    async def add_device(
        self, device: Device, agent_secret_hash: bytes | None, *, former_names: Sequence[str] = ()
    ) -> None:
        """Store a device, with the hash of its agent's secret and the names that the upstream gave it before. Conflict
        when one of its names is, or was, another device's.
        """
        ...

    async def replace_agent_secret(self, device_id: str, agent_secret_hash: bytes) -> None:
        """Let another secret open the agent line for a device."""
        ...

    async def save_device(
        self, device: Device, *, read_at: int | None = None, former_names: Sequence[str] = ()
    ) -> None:
        """Overwrite a device's description (not its agent's secret). Names that it had before stay known as its own.

        `read_at` = the `updated_at` of the record that was read: Conflict when it has changed since, or when one of its
        names is, or was, another device's.
        """
        ...

    async def join_devices(
        self,
        device: Device,
        others: Sequence[Device],
        *,
        read_at: int,
        present: Device | None = None,
        former_names: Sequence[str] = (),
    ) -> None:
        """`save_device` of a record to which other records of the same device are joined, all or nothing: it gets their
        commands, pushes, addresses, names and the secret of the agent of `present`, else of the newest, and is found
        by their ids; they are no more. Conflict as well when one of the others is not as it was read.
        """
        ...

    async def account(self, account_id: str) -> ProviderAccount | None:
        """One provider account."""
        ...

    async def accounts(self) -> list[ProviderAccount]:
        """All provider accounts, oldest first."""
        ...

    async def known_accounts(self, *, anew: bool = False) -> Mapping[str, ProviderAccount]:
        """The same by their ids, for sending: as they are, or were until a second ago. Costs next to nothing.

        `anew`: as they are, for whoever has a reason to doubt what is remembered; which is that from then on.
        """
        ...

    async def add_account(self, account: ProviderAccount) -> None:
        """Store a provider account; a default one replaces the default of its kind."""
        ...

    async def save_account(self, account: ProviderAccount, *, read_at: int | None = None) -> None:
        """Overwrite a provider account, but for its fault; NotFound where there is none.

        With `read_at`, the `updated_at` of the record that was read: Conflict when it has changed since.
        """
        ...

    async def note_fault(self, account_id: str, fault: str | None, now: int, made_at: int | None = None) -> bool:
        """Note why pushes do not go through an account, or that they do (None); whether that is news. Not of an account
        that has changed since `made_at`.
        """
        ...

    async def key(self, key_id: str) -> ApiKey | None:
        """One API key, also a revoked one."""
        ...

    async def keys(self) -> list[ApiKey]:
        """All API keys, oldest first."""
        ...

    async def add_key(self, key: ApiKey, secret_hash: bytes) -> None:
        """Store a key by its hash. Conflict when the key that made it is revoked, or is being revoked now."""
        ...

    async def revoke_key(self, key_id: str, now: int, *, with_created: bool = True) -> bool:
        """Revoke a key, with all keys that come from it; False where there is none."""
        ...

    async def save_organization(self, organization: Organization, *, read_at: int) -> None:
        """Overwrite name and features. Conflict when `updated_at` is not that of the record that was read any more."""
        ...


class EnrollmentRepository(Protocol):
    """What comes before the first device of a Google enterprise."""

    async def sign_up(self, project: str) -> SignUp | None:
        """The sign-up that is under way for a project."""
        ...

    async def save_sign_up(self, sign_up: SignUp) -> None:
        """Store a sign-up in place of the project's former one."""
        ...

    async def drop_sign_up(self, project: str) -> None:
        """Forget the sign-up of a project."""
        ...

    async def add_token(self, token: EnrollmentToken) -> None:
        """Store an enrollment token."""
        ...

    async def tokens(self, limit: int) -> list[EnrollmentToken]:
        """Enrollment tokens, newest first."""
        ...


class UnitOfWork(Protocol):
    """Work inside one organization."""

    @property
    def organization_id(self) -> str:
        """The organization that it is bound to."""
        ...

    @property
    def commands(self) -> CommandRepository:
        """Its commands."""
        ...

    @property
    def pushes(self) -> PushRepository:
        """Its pushes."""
        ...

    @property
    def history(self) -> HistoryRepository:
        """Its histories."""
        ...

    @property
    def devices(self) -> DeviceRepository:
        """Its devices."""
        ...

    @property
    def setup(self) -> SetupRepository:
        """What its operator set up."""
        ...

    @property
    def enrollment(self) -> EnrollmentRepository:
        """What comes before its devices at Google."""
        ...

    async def commit(self, changes: ChangeSet) -> None:
        """Write a change set durably, as a whole. `Conflict`: read again. Goes on if the caller is cancelled."""
        ...


class Directory(Protocol):
    """The only reads before an organization is known."""

    async def principal(self, key_hash: bytes) -> tuple[Principal, ApiKey] | None:
        """The holder of an API key, revoked and expired ones included."""
        ...

    async def organization(self, reference: str) -> Organization | None:
        """An organization by id or slug."""
        ...

    async def organizations(self) -> list[Organization]:
        """All organizations, oldest first (operators only)."""
        ...

    async def add_organization(self, organization: Organization, enterprise: Enterprise | None = None) -> None:
        """Store an organization, with an enterprise of its own in the same transaction. Conflict: its slug is taken."""
        ...

    async def device_by_secret(self, secret_hash: bytes) -> Device | None:
        """The device that an agent's secret belongs to."""
        ...

    async def enterprise(self, enterprise_id: str) -> Enterprise | None:
        """An enterprise of any organization: a notification names it before an organization is known."""
        ...

    async def enterprises(self) -> list[Enterprise]:
        """The enterprises of all organizations that lie at Google."""
        ...


class Store(Protocol):
    """The database as the application sees it."""

    @property
    def directory(self) -> Directory:
        """Reads before an organization is known."""
        ...

    @property
    def system(self) -> SystemWork:
        """The cross-organization half."""
        ...

    def unit_of_work(self, organization_id: str) -> UnitOfWork:
        """Work inside one organization; costs nothing until used."""
        ...

    async def ping(self) -> None:
        """Prove that the database answers and takes writes; raises StoreUnavailable."""
        ...
