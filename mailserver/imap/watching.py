"""Tells a session what happens in folders that it has not selected (NOTIFY).

What happened is the difference between two readings of the mailbox's folders; the messages behind
a difference are read from the log of changes. Invariants: held messages (RULES §7) change no
folder and are told of in no way; a folder is told of by the first group that speaks of it.

Source: RFC 5465 §4, §5, §6.
"""

from collections.abc import Iterable
from functools import partial

from mailserver.imap import commands as c
from mailserver.imap import commands_search as cs
from mailserver.imap.context import Context
from mailserver.imap.folders import write_status
from mailserver.imap.listing import in_scope
from mailserver.imap.responses import list_response
from mailserver.store.errors import NoSuchFolderError
from mailserver.store.model import Folder

_COUNTS = (c.StatusItem.MESSAGES, c.StatusItem.UIDNEXT, c.StatusItem.UIDVALIDITY)
_FLAGS = (c.StatusItem.UIDVALIDITY, c.StatusItem.HIGHESTMODSEQ)
_SELECTED = frozenset({cs.Watched.SELECTED, cs.Watched.SELECTED_DELAYED})
_SILENT = cs.EventGroup(cs.Scope(cs.Watched.SELECTED_DELAYED), frozenset())
_NOTHING: frozenset[cs.Event] = frozenset()


class Watch:
    """What one NOTIFY command wants to know of the folders that are not selected."""

    def __init__(self, groups: Iterable[cs.EventGroup], folders: Iterable[Folder]) -> None:
        self._groups = tuple(groups)
        self._known = {folder.id: folder for folder in folders}

    def events(self, folder: Folder) -> frozenset[cs.Event]:
        """Give what is to be told of a folder."""
        for group in self._groups:
            if in_scope(group.scope, folder.name, subscribed=folder.subscribed):
                return group.events
        return _NOTHING

    async def tell_all(self, context: Context) -> None:
        """Give the counts that later ones are changes of. Source: RFC 5465 §3.1 ``STATUS``."""
        for folder in self._known.values():
            events = self.events(folder)
            if not _is_selected(context, folder) and cs.Event.MESSAGE_NEW in events:
                await write_status(context, folder, _items(events))

    async def tell(self, context: Context) -> None:
        """Tell what happened since the last time."""
        folders = await context.own_folders("l")
        before, self._known = self._known, {folder.id: folder for folder in folders}
        for gone in before.keys() - self._known.keys():
            if cs.Event.MAILBOX_NAME in self.events(before[gone]):
                name = context.write_name(before[gone].name)
                context.write(list_response(b"LIST", (b"\\NonExistent",), name))
        for folder in folders:
            known = before.get(folder.id)
            self._tell_name(context, known, folder)
            if known is not None and known.highestmodseq < folder.highestmodseq:
                await self._tell_messages(context, known, folder)

    def _tell_name(self, context: Context, known: Folder | None, folder: Folder) -> None:
        events = self.events(folder) | (self.events(known) if known else _NOTHING)
        renamed = known is not None and known.name != folder.name
        subscribed = known is not None and known.subscribed != folder.subscribed
        if not (
            (cs.Event.MAILBOX_NAME in events and (known is None or renamed))
            or (cs.Event.SUBSCRIPTION_CHANGE in events and subscribed)
        ):
            return
        words = (b"\\Subscribed",) if folder.subscribed else ()
        extra = b""
        if renamed and known is not None:
            extra = b' ("OLDNAME" (%b))' % context.write_name(known.name)
        context.write(list_response(b"LIST", words, context.write_name(folder.name), extra))

    async def _tell_messages(self, context: Context, known: Folder, folder: Folder) -> None:
        events = self.events(folder)
        if _is_selected(context, folder) or not events & {
            cs.Event.MESSAGE_NEW,
            cs.Event.FLAG_CHANGE,
        }:
            return
        try:
            changes = await context.store.messages.changed_since(folder.id, known.highestmodseq)
            come = folder.uidnext > known.uidnext
            if come or changes.vanished:
                await write_status(context, folder, _items(events))
            elif changes.rows and cs.Event.FLAG_CHANGE in events:
                await write_status(context, folder, _FLAGS)
        except NoSuchFolderError:
            return  # deleted meanwhile: the next reading tells it


async def notify(context: Context, command: cs.Notify) -> bytes:
    """Answer NOTIFY; what the one before wanted is over. Source: RFC 5465 §3."""
    selected = [group for group in command.groups if group.scope.watched in _SELECTED]
    others = [group for group in command.groups if group.scope.watched not in _SELECTED]
    # RFC 5465 §6.1: a selected mailbox that is not named is told nothing of.
    context.notices = selected[0] if selected else _SILENT
    context.tell_others = None
    # What was not told until now is told as the new groups want it.
    context.stirred = True
    if any(group.events for group in others):
        folders = await context.own_folders("l")
        watch = Watch(others, folders)
        if command.status:
            await watch.tell_all(context)
        context.tell_others = partial(watch.tell, context)
    return b"OK NOTIFY completed"


def _items(events: frozenset[cs.Event]) -> tuple[c.StatusItem, ...]:
    """Give the counts that go with a change of messages. Source: RFC 5465 §4.1, §4.3."""
    if cs.Event.FLAG_CHANGE in events:
        return (*_COUNTS, c.StatusItem.HIGHESTMODSEQ)
    return _COUNTS


def _is_selected(context: Context, folder: Folder) -> bool:
    return context.view is not None and context.view.folder.id == folder.id
