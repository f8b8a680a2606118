"""The commands on folders: LIST, SELECT, STATUS, CREATE and their kin.

Invariants: a name reaches the store as a key of this login's mailbox and nothing else (I7); a
folder that cannot be opened leaves none open.

Source: RFC 9051 §6.3.
"""

from directory.codes import MailboxType
from mailserver.imap import commands as c
from mailserver.imap.context import Context
from mailserver.imap.errors import BadCommandError, Code, RefusedError
from mailserver.imap.listing import Line, Named, list_lines, lsub_lines
from mailserver.imap.machine import State
from mailserver.imap.names import OTHERS, SEPARATOR, require_creatable
from mailserver.imap.permissions import CREATES, WRITING, refusal
from mailserver.imap.responses import list_response, mailbox_id, quoted, status_response
from mailserver.imap.view import FolderView
from mailserver.store.errors import (
    CannotError,
    FolderExistsError,
    NoSuchEntryError,
    NoSuchFolderError,
    OverQuotaError,
)
from mailserver.store.model import INBOX, SPECIAL_FOLDERS, Folder
from mailserver.store.rights import NONE, shown_rights


async def _listed(context: Context) -> dict[str, Folder]:
    """Give what LIST may show, by its name: one's own folders and those of others."""
    found = {folder.name: folder for folder in await context.own_folders("l")}
    for mailbox, folder in await context.shared_folders("l"):
        found[f"{OTHERS}{mailbox.address}{SEPARATOR}{folder.name}"] = folder
    return found


async def _named(context: Context, folders: dict[str, Folder]) -> list[Named]:
    """Give what a listing needs; a special use is of one's own mailbox only (RFC 6154 §2).

    A client that found two folders for what it sends would file into either.
    """
    home = context.logged_in.id
    grants = await context.store.sharing.grants(home)
    return [
        Named(name, folder.special_use, folder.subscribed)
        if folder.mailbox_id == home
        else Named(name, None, folder.id in grants.subscribed)
        for name, folder in folders.items()
    ]


async def list_(context: Context, command: c.List) -> bytes:
    """Answer LIST."""
    if command.patterns == ("",) and not command.extended:
        context.write(b'* LIST (\\Noselect) "/" ""\r\n')
        return b"OK LIST completed"
    by_name = await _listed(context)
    for line in list_lines(await _named(context, by_name), command):
        extra = b' ("CHILDINFO" ("SUBSCRIBED"))' if line.child_info else b""
        context.write(
            list_response(b"LIST", line.attributes, context.write_name(line.name), extra)
        )
        if command.status and line.exists:
            folder = by_name[line.name]
            # RFC 8440 §3, RFC 5819 §2: no STATUS where it would be refused.
            if "r" in await context.rights_on(folder):
                await write_status(context, folder, command.status)
        if c.ListReturn.MYRIGHTS in command.returns and line.exists:
            rights = shown_rights(await context.rights_on(by_name[line.name]))
            name = context.write_name(line.name)
            context.write(b"* MYRIGHTS %b %b\r\n" % (name, rights.encode("ascii")))
    return b"OK LIST completed"


async def lsub(context: Context, command: c.Lsub) -> bytes:
    """Answer LSUB."""
    named = await _named(context, await _listed(context))
    lines: list[Line] = lsub_lines(named, command.reference, command.pattern)
    for line in lines:
        context.write(list_response(b"LSUB", line.attributes, context.write_name(line.name)))
    return b"OK LSUB completed"


async def namespace(context: Context, _command: c.Namespace) -> bytes:
    """Answer NAMESPACE. Source: RFC 2342 §5."""
    others = b'(("%b" "/"))' % OTHERS.encode("ascii")
    if context.logged_in.type is not MailboxType.PER:
        others = b"NIL"  # the password of a team's mailbox opens that one alone
    context.write(b'* NAMESPACE (("" "/")) %b NIL\r\n' % others)
    return b"OK NAMESPACE completed"


async def status(context: Context, command: c.Status) -> bytes:
    """Answer STATUS."""
    await write_status(context, await context.folder(command.mailbox), command.items)
    if c.StatusItem.HIGHESTMODSEQ in command.items:
        context.condstore = True
    return b"OK STATUS completed"


async def write_status(context: Context, folder: Folder, items: tuple[c.StatusItem, ...]) -> None:
    """Queue one STATUS response."""
    found = await context.store.folders.status(folder.id)
    values: dict[c.StatusItem, int | bytes] = {
        c.StatusItem.MESSAGES: found.messages,
        c.StatusItem.RECENT: 0,
        c.StatusItem.UIDNEXT: found.uidnext,
        c.StatusItem.UIDVALIDITY: found.uidvalidity,
        c.StatusItem.UNSEEN: found.unseen,
        c.StatusItem.DELETED: found.deleted,
        c.StatusItem.DELETED_STORAGE: found.deleted_octets,
        c.StatusItem.SIZE: found.octets,
        c.StatusItem.HIGHESTMODSEQ: found.highestmodseq,
        c.StatusItem.MAILBOXID: mailbox_id(folder.id),
        c.StatusItem.APPENDLIMIT: context.bind.limits.append_octets,
    }
    context.write(status_response(await context.name_of(folder), values, items))


async def get_quota(context: Context, command: c.GetQuota) -> bytes:
    """Answer GETQUOTA: each mailbox is one quota root, this login's own is the empty one.

    Source: RFC 9208 §4.1.1, §4.2.1.
    """
    roots = {f"{OTHERS}{each.address}": each.id for each in await context.others()}
    home = context.logged_in.id if not command.root else roots.get(command.root)
    if home is None:
        raise RefusedError(Code.NONEXISTENT, "No such quota root")
    await _quota(context, command.root, home)
    return b"OK GETQUOTA completed"


async def get_quota_root(context: Context, command: c.GetQuotaRoot) -> bytes:
    """Answer GETQUOTAROOT. Source: RFC 9208 §4.1.2, §4.2.2."""
    folder = await context.folder(command.mailbox)
    path = await context.path_of(folder)
    root = path.removesuffix(folder.name).removesuffix(SEPARATOR)
    context.write(
        b"* QUOTAROOT %b %b\r\n" % (context.write_name(path), quoted(root.encode("utf-8")))
    )
    await _quota(context, root, folder.mailbox_id)
    return b"OK GETQUOTAROOT completed"


async def _quota(context: Context, root: str, mailbox_id: int) -> None:
    used, most = await context.store.messages.usage(mailbox_id), context.quota
    storage = (-(-used.octets // 1024), most.octets // 1024)
    context.write(
        b"* QUOTA %b (STORAGE %d %d MESSAGE %d %d)\r\n"
        % (quoted(root.encode("utf-8")), *storage, used.messages, most.messages)
    )


async def select(context: Context, command: c.Select) -> bytes:
    """Answer SELECT and EXAMINE; IMAP4rev2 leaves RECENT and UNSEEN out (RFC 9051 §6.3.2)."""
    if command.known is not None and not context.qresync:
        raise BadCommandError("QRESYNC is not enabled")
    if context.view is not None:
        context.write(b"* OK [CLOSED] Previous mailbox closed\r\n")
    context.close_folder()
    if context.subscription is not None:
        context.stirred = context.tell_others is not None
        # What is published from here on is read after the rows below.
        context.subscription.clear()
    folder = await context.folder(command.mailbox)
    access = await _access(context, folder, command.access)
    snapshot = await context.shared.folders.snapshot(folder)
    view = FolderView(folder, snapshot)
    context.view = view
    context.access = access
    context.state = State.SELECTED
    context.condstore = context.condstore or command.condstore
    context.write(context.flags_response())
    context.write(b"* %d EXISTS\r\n" % len(view))
    if context.rev2:
        context.write(list_response(b"LIST", (), await context.name_of(folder)))
    else:
        context.write(b"* 0 RECENT\r\n")
        first_unseen = view.first_unseen()
        if first_unseen is not None and not context.uidonly:
            context.write(b"* OK [UNSEEN %d] First unseen\r\n" % first_unseen)
    context.write(b"* OK [UIDVALIDITY %d] Valid\r\n" % folder.uidvalidity)
    uidnext = max(folder.uidnext, view.uids[-1] + 1 if view.uids else 1)
    context.write(b"* OK [UIDNEXT %d] Next\r\n" % uidnext)
    context.write(b"* OK [HIGHESTMODSEQ %d] Highest\r\n" % view.modseq)
    context.write(b"* OK [MAILBOXID (%b)] Identifier\r\n" % mailbox_id(folder.id))
    context.write(context.permanent_flags())
    known = command.known
    if known is not None and known.uidvalidity == folder.uidvalidity:
        await context.tell_vanished(known.modseq, known.uids)
        changed = [at for at, row in enumerate(view.rows) if row.modseq > known.modseq]
        if known.uids is not None:
            wanted = set(known.uids.among(view.uids[at] for at in changed))
            changed = [at for at in changed if view.uids[at] in wanted]
        context.tell_flags(changed, uid=True)
    word = b"EXAMINE" if command.access is c.Access.READ_ONLY else b"SELECT"
    mode = b"READ-ONLY" if access is c.Access.READ_ONLY else b"READ-WRITE"
    return b"OK [%b] %b completed" % (mode, word)


async def _access(context: Context, folder: Folder, asked: c.Access) -> c.Access:
    """Say how a folder opens, by the rights on it, and have its mailbox's changes told."""
    if context.subscription is not None:
        context.subscription.also(folder.mailbox_id)
    context.rights = await context.rights_on(folder)
    return asked if context.rights & WRITING else c.Access.READ_ONLY


async def create(context: Context, command: c.Create) -> bytes:
    """Answer CREATE, with the levels above that are missing (RFC 9051 §6.3.4)."""
    name = command.mailbox
    require_creatable(name)
    owner, name = await _new_place(context, name)
    folders = await context.store.folders.list(owner)
    use = _use(command.uses)
    existing = {folder.name for folder in folders}
    if name in existing:
        raise RefusedError(Code.ALREADYEXISTS, "The mailbox exists")
    levels = name.split(SEPARATOR)
    for depth in range(1, len(levels)):
        above = SEPARATOR.join(levels[:depth])
        if above not in existing:
            try:
                await context.store.folders.create(owner, above)
            except FolderExistsError:
                continue
    created = await context.store.folders.create(owner, name, use)
    return b"OK [MAILBOXID (%b)] CREATE completed" % mailbox_id(created.id)


async def _new_place(context: Context, name: str) -> tuple[int, str]:
    """Give where a new name leads, when this login may create there.

    Raises:
        RefusedError: CANNOT, NOPERM: the namespace of others itself, a mailbox of others without
            the right ``k`` on the folder above, or on the mailbox where there is none.
    """
    owner, path = await context.place(name)
    if owner == context.logged_in.id:
        if context.person is None:
            if f"{name}{SEPARATOR}".startswith(OTHERS):
                raise RefusedError(Code.CANNOT, "This name is kept for mailboxes of others")
            return owner, path
        require_creatable(path)
    grants = await context.store.sharing.grants((context.person or context.logged_in).id)
    rights = grants.mailboxes.get(owner, NONE)
    above = path
    while SEPARATOR in above:
        above = above.rpartition(SEPARATOR)[0]
        folder = await context.store.folders.get(owner, above)
        if folder is not None:
            rights = grants.on(owner, folder.id)
            break
    if not CREATES.met(rights):
        raise refusal(rights)
    return owner, path


def _use(wanted: tuple[str, ...]) -> str | None:
    """Give the one special use of a new folder; several folders may have the same.

    Raises:
        RefusedError: USEATTR: unknown here, or more than one.

    Source: RFC 6154 §3.
    """
    if not wanted:
        return None
    offered = {use.lower(): use for _name, use in SPECIAL_FOLDERS if use is not None}
    found = offered.get(wanted[0].lower())
    if len(wanted) > 1 or found is None:
        raise RefusedError(Code.USEATTR, "This special use is not offered")
    return found


async def delete(context: Context, command: c.Delete) -> bytes:
    """Answer DELETE.

    The folder this session has open is closed with it; other sessions are told by BYE.
    """
    folder = await context.folder(command.mailbox)
    if folder.name == INBOX:
        raise RefusedError(Code.CANNOT, "INBOX cannot be deleted")
    event = context.folder_event("folder_deleted", folder) if context.is_shared(folder) else None
    await context.store.folders.delete(folder.mailbox_id, folder.name, event)
    if context.view is not None and context.view.folder.id == folder.id:
        context.close_folder()
    return b"OK DELETE completed"


async def rename(context: Context, command: c.Rename) -> bytes:
    """Answer RENAME."""
    require_creatable(command.new)
    folder = await context.folder(command.old)
    owner, new = await _new_place(context, command.new)
    if owner != folder.mailbox_id:
        raise RefusedError(Code.CANNOT, "A folder stays in its mailbox")
    renamed = await context.store.folders.rename(owner, folder.name, new)
    if context.rev2:
        was = b' ("OLDNAME" (%b))' % await context.name_of(folder)
        context.write(list_response(b"LIST", (), await context.name_of(renamed), was))
    return b"OK RENAME completed"


async def subscribe(context: Context, command: c.Subscribe) -> bytes:
    """Answer SUBSCRIBE."""
    folder = await context.folder(command.mailbox)
    await _subscribe(context, folder, subscribed=True)
    return b"OK SUBSCRIBE completed"


async def unsubscribe(context: Context, command: c.Unsubscribe) -> bytes:
    """Answer UNSUBSCRIBE."""
    folder = await context.folder(command.mailbox)
    await _subscribe(context, folder, subscribed=False)
    return b"OK UNSUBSCRIBE completed"


async def _subscribe(context: Context, folder: Folder, *, subscribed: bool) -> None:
    """Note it: for this person only, where the folder is another's."""
    home = context.logged_in.id
    if folder.mailbox_id == home:
        await context.store.folders.subscribe(home, folder.name, subscribed=subscribed)
    else:
        await context.store.sharing.subscribe(folder.id, home, subscribed=subscribed)


def refused(error: Exception) -> RefusedError | None:
    """Give the refusal that an error of the store stands for, None when it is not expected."""
    match error:
        case FolderExistsError():
            return RefusedError(Code.ALREADYEXISTS, "The mailbox exists")
        case NoSuchFolderError():
            return RefusedError(Code.NONEXISTENT, "No such mailbox")
        case NoSuchEntryError():
            return RefusedError(Code.EXPUNGEISSUED, "The message is gone")
        case OverQuotaError():
            return RefusedError(Code.OVERQUOTA, "The mailbox is full")
        case CannotError():
            return RefusedError(Code.CANNOT, "This mailbox cannot be changed so")
        case _:
            return None
