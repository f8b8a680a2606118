"""Where a message of this site's users may go: mailboxes here, and listed operators' recipients.

Invariants: one recipient that cannot be reached refuses the whole message, nothing of it stored;
a patient's mail stays on this site, but for domains declared to be patients' (RULES §11).

Source: RULES §11, RFC 6409 §6.1, RFC 5321 §4.5.1.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from certs.addresses import Address, parse_utf8_addr_spec
from certs.errors import MalformedAddressError
from directory.codes import MailboxType
from directory.lookup import Directory
from directory.model import DomainKind
from mailserver.delivery import errors
from mailserver.delivery.errors import Refused
from mailserver.message.envelope import PLAIN_RECIPIENT, POSTMASTER, RecipientOptions
from mailserver.store.database import MailStore
from mailserver.store.model import Mailbox, NewOutgoing

PATIENTS_OF_THE_COUNTRY: Final = "patient.mssante.fr"
"""Where the addresses of Mon espace santé are (RULES §11)."""


async def reader_of(store: MailStore, address: Address, structure_id: str) -> Mailbox | None:
    """Give the open mailbox in which mail to an address of a structure here is read.

    A postmaster is read by a person, whether no mailbox has that name or it is closed.

    Source: RFC 5321 §4.5.1.
    """
    mailbox = await store.accounts.mailbox(address.key)
    if mailbox is not None and not mailbox.closed:
        return mailbox
    if address.local.lower() != POSTMASTER:
        return None
    mailboxes = await store.accounts.mailboxes(structure_id)
    for kind in (MailboxType.ORG, MailboxType.CAB, MailboxType.PER):
        for mailbox in mailboxes:
            if mailbox.type is kind and not mailbox.closed:
                return mailbox
    return None


@dataclass(frozen=True, slots=True)
class Destinations:
    """Where a message goes: mailboxes here, and recipients of other operators."""

    local: tuple[Mailbox, ...]
    remote: tuple[NewOutgoing, ...]

    @property
    def addresses(self) -> tuple[str, ...]:
        """Every recipient, lower case."""
        return tuple(
            [each.address.lower() for each in self.local]
            + [each.forward_path.lower() for each in self.remote]
        )


@dataclass(frozen=True, slots=True)
class Reach:
    """Decides who may be written to.

    Attributes:
        patient_domains: remote domains declared to be patients'.
    """

    store: MailStore
    directory: Directory
    patient_domains: frozenset[str]

    async def find(
        self, sender: Mailbox, recipients: Iterable[str], wishes: Mapping[str, RecipientOptions]
    ) -> Destinations | Refused:
        """Find the recipients of a message.

        Args:
            sender: whose mailbox it leaves.
            recipients: forward paths, without brackets.
            wishes: parameters of RCPT by the recipient's key.
        """
        local: dict[int, Mailbox] = {}
        remote: dict[str, NewOutgoing] = {}
        for path in recipients:
            try:
                address = parse_utf8_addr_spec(path)
            except MalformedAddressError:
                return Refused(errors.BAD_RECIPIENT)
            here = self.directory.structure_of_domain(address.domain)
            if here is not None:
                mailbox = await reader_of(self.store, address, here[0].id)
                if mailbox is None:
                    return Refused(errors.NO_SUCH_MAILBOX)
                local[mailbox.id] = mailbox
                continue
            refused = self._judge_remote(address, sender)
            if refused is not None:
                return refused
            wish = wishes.get(address.key, PLAIN_RECIPIENT)
            remote[address.key] = NewOutgoing(address.text, address.domain, wish)
        if not local and not remote:
            return Refused(errors.BAD_RECIPIENT)
        return Destinations(tuple(local.values()), tuple(remote.values()))

    def reaches(self, mailbox: Mailbox, recipient: str) -> bool:
        """Say whether the rules let this mailbox write to that address at all."""
        if mailbox.closed:
            return False
        try:
            address = parse_utf8_addr_spec(recipient)
        except MalformedAddressError:
            return False
        if self.directory.structure_of_domain(address.domain) is not None:
            return True
        return self._judge_remote(address, mailbox) is None

    def is_patients(self, address: Address) -> bool:
        """Whether an address is of a patients' domain, here or elsewhere."""
        here = self.directory.structure_of_domain(address.domain)
        if here is None:
            return address.domain in self.patient_domains | {PATIENTS_OF_THE_COUNTRY}
        return here[1] is DomainKind.PATIENT and address.local.lower() != POSTMASTER

    def _judge_remote(self, address: Address, mailbox: Mailbox) -> Refused | None:
        if not self.directory.trust.lists(address.domain):
            return Refused(errors.NOT_LISTED)
        if mailbox.type is MailboxType.PAT and address.domain not in self.patient_domains:
            return Refused(errors.PATIENTS_STAY)
        return None
