"""The commands on rights: GETACL, SETACL, DELETEACL, LISTRIGHTS, MYRIGHTS.

Invariants: only the folders of a team's mailbox are shared, with people of its structure; who has
no ``a`` learns nothing of who else works there; every change is in the trail with the person.

Source: RFC 4314 §3.
"""

from directory.codes import MailboxType
from directory.trail import AuditEvent
from mailserver.imap import commands as c
from mailserver.imap.context import Context
from mailserver.imap.errors import Code, RefusedError
from mailserver.imap.responses import quoted
from mailserver.store.errors import NotSharableError
from mailserver.store.model import Folder, Mailbox
from mailserver.store.rights import (
    ALL,
    LETTERS,
    OLD,
    Rights,
    RightsMode,
    encode_rights,
    shown_rights,
)
from mailserver.store.sharing import SHARED_TYPES, FolderWord

_NOBODY = RefusedError(Code.CANNOT, "Nobody here can be given rights under this name")


async def _home(context: Context, folder: Folder) -> Mailbox:
    found = await context.store.accounts.mailbox_by_id(folder.mailbox_id)
    if found is None:
        raise RefusedError(Code.NONEXISTENT, "No such mailbox")
    return found


async def get_acl(context: Context, command: c.GetAcl) -> bytes:
    """Answer GETACL. Source: RFC 4314 §3.3, §3.6."""
    folder = await context.folder(command.mailbox)
    home = await _home(context, folder)
    found = await context.store.sharing.acl(home.id, folder.name)
    if home.type not in SHARED_TYPES:
        found = [(home, ALL)]
    listed = b"".join(
        b" %b %b" % (quoted(person.address.encode("ascii")), shown_rights(rights).encode("ascii"))
        for person, rights in found
    )
    context.write(b"* ACL %b%b\r\n" % (await context.name_of(folder), listed))
    return b"OK GETACL completed"


async def my_rights(context: Context, command: c.MyRights) -> bytes:
    """Answer MYRIGHTS. Source: RFC 4314 §3.5, §3.8."""
    folder = await context.folder(command.mailbox)
    await write_my_rights(context, folder)
    return b"OK MYRIGHTS completed"


async def write_my_rights(context: Context, folder: Folder) -> None:
    """Queue one MYRIGHTS response."""
    rights = shown_rights(await context.rights_on(folder)).encode("ascii")
    context.write(b"* MYRIGHTS %b %b\r\n" % (await context.name_of(folder), rights))


async def list_rights(context: Context, command: c.ListRights) -> bytes:
    """Answer LISTRIGHTS: each right can be given alone, to a person of the structure.

    Source: RFC 4314 §3.4, §3.7.
    """
    folder = await context.folder(command.mailbox)
    home = await _home(context, folder)
    always, others = b'""', b""
    if home.type in SHARED_TYPES:
        await _person(context, home, command.identifier)
        others = b"".join(b" %b" % letter.encode() for letter in (*LETTERS, *OLD))
    elif command.identifier.lower() == home.address.encode("ascii"):
        always = shown_rights(ALL).encode("ascii")
    context.write(
        b"* LISTRIGHTS %b %b %b%b\r\n"
        % (await context.name_of(folder), quoted(command.identifier), always, others)
    )
    return b"OK LISTRIGHTS completed"


async def set_acl(context: Context, command: c.SetAcl) -> bytes:
    """Answer SETACL. Source: RFC 4314 §3.1."""
    folder = await context.folder(command.mailbox)
    await _say(context, folder, command.identifier, (command.mode, command.rights))
    return b"OK SETACL completed"


async def delete_acl(context: Context, command: c.DeleteAcl) -> bytes:
    """Answer DELETEACL. Source: RFC 4314 §3.2."""
    folder = await context.folder(command.mailbox)
    await _say(context, folder, command.identifier, (RightsMode.REPLACE, frozenset()))
    return b"OK DELETEACL completed"


async def _say(
    context: Context, folder: Folder, identifier: bytes, what: tuple[RightsMode, Rights]
) -> None:
    person = await _person(context, await _home(context, folder), identifier)
    mode, rights = what
    event = AuditEvent(
        kind="folder_shared",
        at=context.shared.now(),
        actor=context.actor,
        structure_id=person.structure_id,
        subject=f"mailbox:{folder.mailbox_id}",
        facts={
            "folder": folder.id,
            "person": f"mailbox:{person.id}",
            "rights": mode.value + encode_rights(rights),
        },
    )
    word = FolderWord(folder.id, person.id, mode, rights)
    try:
        await context.store.sharing.set_word(word, event)
    except NotSharableError:
        raise _NOBODY from None


async def _person(context: Context, home: Mailbox, identifier: bytes) -> Mailbox:
    """Find who is named; the same refusal for nobody, a patient and somebody elsewhere."""
    try:
        found = await context.store.accounts.mailbox(identifier.decode("ascii"))
    except UnicodeDecodeError:
        raise _NOBODY from None
    if found is None or found.structure_id != home.structure_id:
        raise _NOBODY
    if found.type is not MailboxType.PER or home.type not in SHARED_TYPES:
        raise _NOBODY
    return found
