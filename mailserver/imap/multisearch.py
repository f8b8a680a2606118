"""Answers ESEARCH: one search in several folders of the login's mailbox.

Invariants: a folder that is named and not there is passed over like one without a hit, so that
nothing can be learned of names (threat I11); one deadline holds for the whole command.

Source: RFC 7377 §2.
"""

import asyncio

from mailserver.imap import commands_search as cs
from mailserver.imap import search_keys as k
from mailserver.imap.context import Context
from mailserver.imap.errors import BadCommandError, Code, RefusedError
from mailserver.imap.listing import in_scope
from mailserver.imap.machine import State
from mailserver.imap.results import ends, found_texts, saved_positions
from mailserver.imap.search import Searcher
from mailserver.imap.shared import Progress
from mailserver.imap.view import FolderView
from mailserver.store.errors import NoSuchFolderError
from mailserver.store.model import Folder

_HERE = (cs.Scope(cs.Watched.SELECTED),)


async def multi_search(context: Context, command: cs.MultiSearch) -> bytes:
    """Answer ESEARCH."""
    scopes = command.scopes or _HERE
    _require_sense(context, command, scopes)
    folders = await context.own_folders("r")
    if context.view is not None and context.view.folder.mailbox_id != context.logged_in.id:
        folders.append(context.view.folder)
    chosen = [folder for folder in folders if _is_wanted(context, scopes, folder)]
    progress = context.progress
    progress.goal = len(chosen)
    try:
        async with asyncio.timeout(context.bind.limits.search_deadline_s):
            for folder in chosen:
                await _search_in(context, command, folder)
                progress.done += 1
    except TimeoutError:
        raise RefusedError(Code.LIMIT, "The search took too long") from None
    return b"OK ESEARCH completed"


def _require_sense(
    context: Context, command: cs.MultiSearch, scopes: tuple[cs.Scope, ...]
) -> None:
    """Refuse what has no sense in several mailboxes. Source: RFC 7377 §2.1, §2.2."""
    if command.names_charset and context.accepts_utf8:
        raise BadCommandError("UTF-8 is enabled: no charset is named")  # RFC 6855 §3
    if k.names_numbers(command.key):
        raise BadCommandError("Message numbers are of one mailbox")
    if any(scope.watched is cs.Watched.SELECTED for scope in scopes) and (
        context.state is not State.SELECTED
    ):
        raise BadCommandError("No mailbox is selected")
    saves = cs.SearchReturn.SAVE in command.returns or k.names_saved(command.key)
    if saves and any(scope.watched is not cs.Watched.SELECTED for scope in scopes):
        raise BadCommandError("A saved result is of the selected mailbox")


def _is_selected(context: Context, folder: Folder) -> bool:
    return context.view is not None and context.view.folder.id == folder.id


def _is_wanted(context: Context, scopes: tuple[cs.Scope, ...], folder: Folder) -> bool:
    return any(
        _is_selected(context, folder)
        if scope.watched is cs.Watched.SELECTED
        else in_scope(scope, folder.name, subscribed=folder.subscribed)
        for scope in scopes
    )


async def _search_in(context: Context, command: cs.MultiSearch, folder: Folder) -> None:
    """Search one folder, and answer when something was found there."""
    if _is_selected(context, folder):
        view, saved = context.opened, saved_positions(context)
    else:
        try:
            view, saved = FolderView(folder, await context.shared.folders.snapshot(folder)), []
        except NoSuchFolderError:
            return  # deleted meanwhile
    searcher = Searcher(context.shared, view, context.bind.limits, saved, Progress())
    positions, has_modseq = await searcher.run(command.key)
    returns = command.returns
    if cs.SearchReturn.SAVE in returns:
        context.saved = tuple(view.uids[at] for at in ends(returns, positions))
    if not positions or returns.only_saves:
        return
    highest = max(view.rows[at].modseq for at in positions) if has_modseq else 0
    told = found_texts(returns, [view.uids[at] for at in positions], highest)
    context.write(
        b'* ESEARCH (TAG "%b" MAILBOX %b UIDVALIDITY %d) UID %b\r\n'
        % (context.tag, await context.name_of(folder), folder.uidvalidity, b" ".join(told))
    )
