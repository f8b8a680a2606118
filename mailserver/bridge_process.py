"""The bridge child: an IMAP client beside the mail child, and the one writer of the record.

Invariants: it holds the site's bridge lock; it reaches the mail only over IMAP and submission,
as it would reach another operator's (DESIGN D1).
"""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import structlog

from certs.keystore import KeyStore
from certs.tls import client_context
from directory import trail
from directory.lookup import Directory
from mailserver.background import Background
from mailserver.control import Command, serve_control, sole_owner
from mailserver.databases import now, open_directory
from mailserver.errors import CommandError
from mailserver.sealing import Sealer
from mailserver.settings import Settings, Site
from record_bridge.errors import InsError, RecordStateError
from record_bridge.handover import HandoverTarget
from record_bridge.model import Environment
from record_bridge.worker import BridgeSettings, BridgeWorker, StructureInbox

log = structlog.get_logger("mailserver.bridge_process")

LOOPBACK = frozenset({"127.0.0.1", "::1", "localhost"})
REFUSALS = {
    "no_such_token": "No such token in force; see 'pli token list DIR'.",
    "patient_exists": "A patient with this INS is registered in this structure already.",
    "no_such_patient": "No such patient in this structure; see 'pli patient list DIR'.",
    "no_such_document": "No such document in this structure; see 'pli record list DIR'.",
    "no_such_day": "This is not a day between the patient's birth and today (AAAA-MM-JJ).",
    "no_such_entry": "The agenda has no such entry.",
    "no_such_decision": "This is not a decision that can be taken.",
    "no_such_structure": "No such structure; see 'pli structure list DIR'.",
    "several_structures": "Say which structure with --structure ID.",
    "visible_already": "The patient sees this document already.",
    "no_title": "Something must be written.",
    "file_empty": "This file is empty.",
    "file_too_large": "A file has at most 5 MB.",
    "file_type": "Only JPEG, PDF, PNG, RTF, TIFF and plain text files can be added.",
    "file_ending": "The name of this file does not fit what is in it.",
    "no_such_kind": "There is no such kind.",
    "no_such_measure": "There is no such measurement.",
    "no_such_value": "This value cannot be meant.",
    "not_a_calendar": "This is not a calendar with one appointment.",
    "calendar_repeats": "An appointment that repeats cannot be kept.",
    "calendar_too_large": "This calendar is larger than 64 kB.",
    "etag_differs": "It was changed meanwhile.",
    "uid_taken": "Another appointment has this UID.",
    "too_many": "There are as many of them as can be kept.",
    "newer_known": "A later version of this invitation was answered already.",
    "no_such_due": "The due day is AAAA-MM-JJ, from today to two years ahead.",
    "no_such_pack": "No such pack or item that is open; see 'pli pack list DIR'.",
    "pack_sent": "This pack is sent: close it, and make another.",
    "pack_empty": "Nothing is in this pack: add documents and forms first.",
    "nothing_to_remind": "Nothing of this pack waits for its patient.",
    "reminded_today": "Its patient was reminded less than a day ago.",
    "pack_unfinished": "Something of this pack is left to read or to give back.",
    "form_is_pdf": "A form is a PDF file.",
    "not_returned": "The patient has not given this form back.",
    "bad_policy": "This is no policy: TOML with a title and rules that each have their source.",
    "record_closed": "This record is closed.",
    "no_such_file": "The file cannot be made: choose a name that is not taken.",
    "archive_unreadable": "This is no archive of a record, or it was changed.",
    "archive_of_another": "This archive is about another person, or their identity differs.",
    "document_of_another": "A document of this archive bears the number of another person.",
    "archive_conflicts": "A document of this archive is in another record already.",
    "record_not_empty": "This record is not empty: an archive fills an empty one only.",
    "no_such_professional": "No professional of this RPPS; see 'pli account list DIR'.",
    "no_physician": "An attending physician is a physician (profession 10).",
    "no_such_person": "The other person must be another patient of the same structure.",
    "no_such_right": "No such right holds; see 'pli access list DIR'.",
    "no_such_end": "This end cannot be: it is past, or more than a year ahead.",
    "no_such_code": "This code opens nothing.",
    "no_reason": "A reason must be given.",
    "no_name": "Say what the other person is called.",
    "no_part": "Say what is shared: documents, agenda.",
    "emergency_refused": "This record cannot be opened in an emergency by this professional.",
    "of_age": "This patient is of age: nobody represents them.",
    "which_oid": "Several patients have this matricule: say which with --oid.",
    "same_identity": "This is one identity: there is nothing to merge.",
    "other_structure": "These identities are of two structures: they never share a record.",
    "merged_already": "One of these identities is merged already; see 'pli patient list DIR'.",
    "one_is_closed": "One of these records is closed: close or open both, then merge.",
    "holds_others": "Others are merged into this identity: split them first, then merge each.",
    "keep_the_qualified": "Merge the other way: the qualified identity keeps the record.",
    "traits_differ": "Two qualified identities whose traits differ are two persons: correct one.",
    "not_merged": "This identity is not merged into another.",
    "withdrawn_already": "This document is withdrawn already.",
    "not_withdrawn": "This document is not withdrawn.",
    "imported": "This document came in an archive of another site: only there is its mail.",
    "filed_by_hand": "This document was filed by hand: withdraw it, then file it anew.",
    "withdrawn_here": "This file was withdrawn from this record: see 'pli record restore'.",
    "not_offered": "Only a PDF or HPRIM Médecin text is filed so.",
    "several_patients": "This file holds letters about several patients: one at a time is filed.",
    "no_such_type": "No such document type: give a code of the CI-SIS, such as 11502-2.",
    "opposed": "This patient opposes that documents enter their record.",
    "filed_already": "This document is in a record already.",
    "not_qualified": "Only a qualified identity, beyond doubt and not merged, takes documents.",
    "nothing_to_undo": "Nobody decided on this item, or it is undone already.",
    "say_whose": "Say whose document it is with --ins and --oid.",
    "another_number": "This document bears another INS: it goes to the record of that one only.",
    "not_for_a_person": "The rules leave this to no person: see why with 'pli quarantine show'.",
    "no_open_row": "No such open row; see 'pli quarantine list DIR'.",
}
"""What a person is told for each reason of ``RecordStateError``."""
INS_REFUSALS = {
    "key": "The key of the INS does not match its number: check the last two digits.",
    "authority": "This OID is not one of an INS.",
    "test": "This OID is for tests: a production site refuses it.",
    "sex": "The sex is M or F.",
    "status": "The status is provisoire, recuperee, validee or qualifiee.",
    "name": "A name must hold letters.",
    "form": "The INS, or a trait, is not well formed (15 characters; date AAAA-MM-JJ).",
}
"""What a person is told for each reason of ``InsError``."""


@asynccontextmanager
async def bridge_process(site: Site, settings: Settings) -> AsyncIterator[dict[str, int]]:
    """Run the bridge child until the block ends; it listens on no port."""
    async with AsyncExitStack() as stack:
        stack.enter_context(sole_owner(site.run / "bridge.lock"))
        directory = await stack.enter_async_context(
            await open_directory(site, settings, read_only=True)
        )
        inboxes = await asyncio.to_thread(_inboxes, site, settings)
        worker = await stack.enter_async_context(
            BridgeWorker(_bridge_settings(site, settings, inboxes), directory)
        )
        tasks = await stack.enter_async_context(Background())
        sealer = Sealer(
            partial(worker.record.write, trail.seal), site.trail_key, site.roots / "record.jsonl"
        )
        tasks.start(sealer.run())

        async def structures_changed(_arguments: Mapping[str, Any]) -> None:
            await worker.watch(await asyncio.to_thread(_inboxes, site, settings))

        commands = {**_commands(worker), "structures_changed": structures_changed}
        async with asyncio.TaskGroup() as group:
            running = group.create_task(worker.run())
            try:
                async with serve_control(site.run / "bridge.sock", commands):
                    yield {}
            finally:
                log.info("bridge_stopping")
                worker.stop()
                await running


@asynccontextmanager
async def record_commands(
    site: Site, settings: Settings, directory: Directory
) -> AsyncIterator[Mapping[str, Command]]:
    """Give the record's commands in this process; nothing is fetched meanwhile."""

    async def structures_changed(_arguments: Mapping[str, Any]) -> None:
        """Do nothing: no bridge runs, the next one reads them."""

    async with BridgeWorker(_bridge_settings(site, settings, ()), directory) as worker:
        yield {**_commands(worker), "structures_changed": structures_changed}


def _bridge_settings(
    site: Site, settings: Settings, inboxes: tuple[StructureInbox, ...]
) -> BridgeSettings:
    keystore = KeyStore(site.pki, clock=now)
    return BridgeSettings(
        record=site.record_database,
        inboxes=inboxes,
        ca_file=keystore.root,
        authserv_id=settings.authserv_id,
        environment=Environment(settings.environment.value),
        anchors=keystore.anchors(),
        crls=keystore.crls,
        server_name=settings.host,
        purge_after_days=settings.purge_after_days,
        handovers=_handovers(site, settings, keystore) if inboxes else (),
    )


def _handovers(site: Site, settings: Settings, keystore: KeyStore) -> tuple[HandoverTarget, ...]:
    found = []
    for structure_id, door in settings.hl7v2.items():
        if door.handover is None:
            continue
        address, tls = door.handover.address(), None
        if address is not None and address[0] not in LOOPBACK:
            tls = client_context(site.hl7_ca, keystore.server_cert, keystore.server_key)
        folder = None if door.handover.folder is None else Path(door.handover.folder)
        found.append(HandoverTarget(structure_id, address, tls, folder, door.handover.answers))
    return tuple(found)


def _inboxes(site: Site, settings: Settings) -> tuple[StructureInbox, ...]:
    known: dict[str, dict[str, str]] = json.loads(site.applications.read_text())
    host = "127.0.0.1" if settings.listen == "0.0.0.0" else settings.listen  # noqa: S104 - compared
    return tuple(
        StructureInbox(
            structure_id,
            login["address"],
            login["password"],
            host,
            settings.ports.imaps,
            host,
            settings.ports.submissions,
        )
        for structure_id, login in known.items()
    )


def _commands(worker: BridgeWorker) -> dict[str, Command]:
    table: dict[str, Command] = {
        name: _explained(command) for name, command in worker.table().items()
    }
    return table


def _explained(command: Callable[[Mapping[str, Any]], Awaitable[Any]]) -> Command:
    """Turn the record's refusals into sentences for the person."""

    async def run(arguments: Mapping[str, Any]) -> Any:
        try:
            return await command(arguments)
        except RecordStateError as error:
            text = REFUSALS.get(error.reason, "The record refuses this.")
            raise CommandError(error.reason, text) from error
        except InsError as error:
            text = INS_REFUSALS.get(error.reason, INS_REFUSALS["form"])
            raise CommandError(f"ins_{error.reason}", text) from error

    return run
