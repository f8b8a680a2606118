"""The ``pli`` command as a whole: every family of subcommands under one name."""

import typer

from mailserver.cli import (
    decisions,
    encryption,
    handover,
    hospital,
    identity,
    offers,
    outgoing,
    packs,
    people,
    records,
    reminders,
    retention,
    rights,
    sharing,
    site,
    tokens,
    trust,
    unread,
)

app = typer.Typer(
    name="pli",
    help="Pli, an open MSSanté operator: secure health messaging, an annuaire, and a bridge "
    "that files reports into patients' records.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
site.register(app)
app.add_typer(people.structures, name="structure")
unread.register(people.accounts)
app.add_typer(people.accounts, name="account")
app.add_typer(people.devices, name="device")
app.add_typer(sharing.mailboxes, name="mailbox")
identity.register(people.patients)
app.add_typer(people.patients, name="patient")
decisions.register(records.quarantine, records.record)
app.add_typer(records.record, name="record")
app.add_typer(rights.access, name="access")
reminders.register(records.agenda)
app.add_typer(records.agenda, name="agenda")
app.add_typer(records.quarantine, name="quarantine")
app.add_typer(packs.packs, name="pack")
app.add_typer(retention.retention, name="retention")
app.add_typer(offers.offers, name="offer")
app.add_typer(tokens.tokens, name="token")
app.add_typer(handover.handover, name="handover")
app.add_typer(outgoing.queue, name="queue")
app.add_typer(outgoing.message, name="message")
app.add_typer(encryption.encryption, name="encryption")
app.add_typer(trust.trust_list, name="trust-list")
app.add_typer(records.audit, name="audit")
app.add_typer(hospital.report, name="report")
app.add_typer(hospital.receiver, name="hospital")
