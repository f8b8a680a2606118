"""The command loop of one connection: frame, parse, allow, run, answer.

Invariants: commands run one after the other, each after the answer to the one before it
(threat I6); only here do errors become BAD and NO; whatever is unforeseen is ``NO [SERVERBUG]``
with a fixed text, and ends the connection when its state is unknown; one log line per session.

Source: RFC 9051 §2.2, §5.4, §7.1.
"""

import asyncio
import ssl
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any

import structlog

from mailserver.imap import (
    acl,
    appending,
    folders,
    login,
    messages,
    multisearch,
    sorting,
    watching,
)
from mailserver.imap import commands as c
from mailserver.imap import commands_messages as cm
from mailserver.imap import commands_search as cs
from mailserver.imap.context import Context
from mailserver.imap.errors import (
    BadCommandError,
    Code,
    ConnectionGoneError,
    FatalWireError,
    RefusedError,
    StoppingError,
    UnsavedSearchError,
)
from mailserver.imap.grammar import UntaggedError, read_command, read_tag
from mailserver.imap.machine import (
    NEEDS_WRITING,
    REPORTS_PROGRESS,
    State,
    allowed,
    expunge_allowed,
    speaks_numbers,
)
from mailserver.imap.shared import Progress
from mailserver.imap.wire import Continue, RawCommand, TooBig
from mailserver.store.errors import ServerKeywordError, StoreError, TooManyKeywordsError

log = structlog.get_logger("mailserver")

Handler = Callable[[Context, Any], Awaitable[bytes]]
"""``Any``: each handler takes its own command class; the table below pairs them."""

HANDLERS: dict[type, Handler] = {
    c.Capability: login.capability,
    c.Id: login.identify,
    c.Login: login.login,
    c.Authenticate: login.authenticate,
    c.Select: folders.select,
    c.Create: folders.create,
    c.Delete: folders.delete,
    c.Rename: folders.rename,
    c.Subscribe: folders.subscribe,
    c.Unsubscribe: folders.unsubscribe,
    c.List: folders.list_,
    c.Lsub: folders.lsub,
    c.Namespace: folders.namespace,
    c.GetQuota: folders.get_quota,
    c.GetQuotaRoot: folders.get_quota_root,
    c.Status: folders.status,
    c.GetAcl: acl.get_acl,
    c.SetAcl: acl.set_acl,
    c.DeleteAcl: acl.delete_acl,
    c.ListRights: acl.list_rights,
    c.MyRights: acl.my_rights,
    cs.Notify: watching.notify,
    c.Append: appending.append,
    c.Close: messages.close,
    c.Unselect: messages.unselect,
    c.Expunge: messages.expunge,
    cm.Fetch: messages.fetch,
    cm.Store: messages.store,
    cm.Copy: messages.copy,
    cm.Move: messages.move,
    c.Replace: appending.replace,
    cs.Search: messages.search,
    cs.MultiSearch: multisearch.multi_search,
    cs.UidBatches: messages.uid_batches,
    cs.Sort: sorting.sort,
    cs.Thread: sorting.thread,
}
"""What answers each command; NOOP, CHECK, LOGOUT, ENABLE, STARTTLS and IDLE are the loop's own."""

ENABLED = (b"CONDSTORE", b"IMAP4rev2", b"QRESYNC", b"UIDONLY", b"UTF8=ACCEPT")
"""What ENABLE can turn on."""
HTTP_VERBS = (b"GET ", b"POST ", b"PUT ", b"HEAD ", b"OPTIONS ", b"DELETE /", b"CONNECT ")
"""Threat S7: a browser that was led here is hung up on at its first line."""
IDLE_QUIET_S = 300.0
"""How often an idle client is told ``* OK`` so that routers keep the connection."""


class Session:
    """One connection's session."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._connection = context.connection
        self._bad = 0
        self._commands = 0
        self._phase = "greeting"
        self._pushing: asyncio.Task[None] | None = None
        self._report: asyncio.TimerHandle | None = None

    async def run(self) -> None:
        """Serve until the connection ends. Nothing is raised but cancellation."""
        context, connection = self._context, self._connection
        started = time.monotonic()
        try:
            context.write(b"* OK [CAPABILITY %b] Pli ready\r\n" % context.capabilities())
            await connection.flush()
            async with asyncio.timeout(context.bind.limits.login_deadline_s) as deadline:
                while context.state is not State.LOGOUT:
                    if context.state is not State.NOT_AUTHENTICATED:
                        deadline.reschedule(None)
                    await self._step()
        except ConnectionGoneError:
            context.ending = context.ending or "gone"
        except StoppingError:
            context.ending = "stopping"
            context.write(b"* BYE Server is stopping\r\n")
        except TimeoutError:
            context.ending = "idle"
            context.write(b"* BYE Too long without a command\r\n")
        except FatalWireError:
            context.ending = "wire"
            context.write(b"* BAD Line or literal too long\r\n* BYE Too long\r\n")
        except asyncio.CancelledError:
            context.ending = "stopping"
            context.write(b"* BYE Server is stopping\r\n")
            raise
        except Exception as error:  # noqa: BLE001 - loop top: our fault, said once
            context.ending = "bug"
            self._log_failure("imap_session_failed", error)
            context.write(b"* BYE Internal error\r\n")
        finally:
            self._leave()
            connection.close()
            log.info(
                "imap_session",
                mailbox_id=context.mailbox.id if context.mailbox else None,
                count=self._commands,
                code=context.ending or "logout",
                duration_ms=int((time.monotonic() - started) * 1000),
            )

    def _push_as_asked(self) -> None:
        """Be woken by changes as long as NOTIFY wants them told at once."""
        context = self._context
        notices = context.notices
        wanted = context.tell_others is not None or (notices is not None and bool(notices.events))
        if wanted and self._pushing is None:
            self._pushing = context.shared.spawn(self._pump())
        elif not wanted and self._pushing is not None:
            self._pushing.cancel()
            self._pushing = None

    async def _say_unasked(self) -> None:
        """Tell what happened, with no command to answer. Source: RFC 5465 §3.1, §6.1."""
        context = self._context
        notices = context.notices
        at_once = notices is not None and notices.scope.watched is cs.Watched.SELECTED
        await self._sync_safely(expunge=at_once)
        await self._connection.flush()
        if context.state is State.LOGOUT:
            raise ConnectionGoneError

    def _leave(self) -> None:
        """Give back what the login took."""
        context = self._context
        if self._pushing is not None:
            self._pushing.cancel()
        if context.subscription is not None:
            context.subscription.close()
        if context.mailbox is not None:
            context.shared.services.fairness.accounts.give(context.mailbox.id)

    async def _step(self) -> None:
        """Take one event of the wire and answer it."""
        context, connection = self._context, self._connection
        self._phase = "read"
        limits = context.bind.limits
        self._push_as_asked()
        unasked = self._say_unasked if self._pushing else None
        event = await connection.next_event(limits.idle_deadline_s, unasked)
        match event:
            case Continue():
                context.write(b"+ OK\r\n")
            case TooBig(tag):
                self._too_big(tag)
            case RawCommand():
                self._commands += 1
                if not context.shut_out():
                    await self._command(event)
        await connection.flush()

    def _too_big(self, tag: bytes | None) -> None:
        if self._context.state is State.NOT_AUTHENTICATED:
            # RFC 7888 §4: the literal was not sent; the stream is in step.
            self._answer(tag or b"*", b"BAD [TOOBIG] Literal too large")
            self._count_bad()
        else:
            self._answer(tag or b"*", b"NO [TOOBIG] Literal too large")

    def _answer(self, tag: bytes, reply: bytes) -> None:
        self._context.write(b"%b %b\r\n" % (tag, reply))

    def _count_bad(self) -> None:
        self._bad += 1
        context = self._context
        limits = context.bind.limits
        before = context.state is State.NOT_AUTHENTICATED
        if self._bad >= (limits.bad_before_login if before else limits.bad_commands):
            context.write(b"* BYE Too many errors\r\n")
            context.state = State.LOGOUT
            context.ending = "errors"

    async def _command(self, raw: RawCommand) -> None:
        context = self._context
        if context.state is State.NOT_AUTHENTICATED and raw.text.upper().startswith(HTTP_VERBS):
            context.write(b"* BYE This is IMAP\r\n")
            context.state = State.LOGOUT
            context.ending = "http"
            return
        try:
            tag, cursor = read_tag(raw, context.read_name)
        except UntaggedError:
            self._answer(b"*", b"BAD Invalid tag")
            self._count_bad()
            return
        context.tag = tag
        self._phase = "parse"
        try:
            command = read_command(cursor)
            reply = await self._run(tag, command)
        except BadCommandError as error:
            self._answer(tag, _said(b"BAD", error))
            self._count_bad()
            return
        except RefusedError as error:
            if isinstance(error, UnsavedSearchError):
                context.saved = ()
            reply = _said(b"NO", error)
        if reply:
            self._bad = 0
            self._answer(tag, reply)

    async def _run(self, tag: bytes, command: c.Command) -> bytes:
        """Run a command; gives the tagged reply, empty when it was sent already.

        Raises:
            BadCommandError, RefusedError: the answer is BAD, NO.
        """
        context = self._context
        kind = type(command)
        self._phase = kind.__name__
        if not allowed(context.state, kind):
            raise BadCommandError("Not in this state")
        if context.uidonly and speaks_numbers(command):
            raise BadCommandError("UIDONLY is enabled", Code.UIDREQUIRED)
        if kind in NEEDS_WRITING and context.access is c.Access.READ_ONLY:
            raise RefusedError(Code.READ_ONLY, "The mailbox is open read-only")
        context.running = kind
        await context.require_open()
        match command:
            case c.Logout():
                context.write(b"* BYE Until next time\r\n")
                context.state = State.LOGOUT
                return b"OK LOGOUT completed"
            case c.StartTls():
                await login.start_tls(context, tag)
                return b""
            case c.Idle():
                return await self._idle()
            case c.Compress():
                return await self._compress(tag)
            case c.Enable():
                return self._enable(command)
            case c.Noop() | c.Check():
                reply = b"OK %b completed" % kind.__name__.upper().encode("ascii")
            case _:
                reply = await self._handle(HANDLERS[kind], command)
        await self._sync_safely(expunge=expunge_allowed(command))
        return reply

    async def _handle(self, handler: Handler, command: c.Command) -> bytes:
        context = self._context
        try:
            if type(command) in REPORTS_PROGRESS:
                with self._reporting():
                    return await handler(context, command)
            return await handler(context, command)
        except (BadCommandError, FatalWireError, ConnectionGoneError, StoppingError):
            raise
        except RefusedError as error:
            # A refusal does not silence what happened in the folder meanwhile.
            return _said(b"NO", error)
        except ServerKeywordError:
            return b"NO [NOPERM] The server alone sets this keyword"
        except TooManyKeywordsError:
            return b"NO [LIMIT] Too many keywords"
        except StoreError as error:
            refused = folders.refused(error)
            if refused is not None:
                return _said(b"NO", refused)
            return self._bug(error)
        except (TimeoutError, ssl.SSLError):
            raise
        except Exception as error:  # noqa: BLE001 - loop top: our fault, said once
            return self._bug(error)

    @contextmanager
    def _reporting(self) -> Iterator[None]:
        """Say from time to time that a command is still at work. Source: RFC 9585 §3."""
        self._context.progress = Progress()
        self._report_later()
        try:
            yield
        finally:
            if self._report is not None:
                self._report.cancel()

    def _report_later(self) -> None:
        pause = self._context.bind.limits.progress_interval_s
        self._report = asyncio.get_running_loop().call_later(pause, self._report_now)

    def _report_now(self) -> None:
        context = self._context
        said = context.progress.encode(context.tag)
        context.write(b"* OK [INPROGRESS (%b)] Still working\r\n" % said)
        self._connection.send()
        self._report_later()

    def _bug(self, error: Exception) -> bytes:
        """Answer what was not foreseen; half a response may be out, so this is the end."""
        context = self._context
        self._log_failure("imap_command_failed", error)
        if self._phase == cm.Fetch.__name__:
            context.state = State.LOGOUT
            context.ending = "bug"
        return b"NO [SERVERBUG] Internal error"

    def _log_failure(self, event: str, error: Exception) -> None:
        # The type and the place, never the text: it may quote what a client sent.
        log.error(event, phase=self._phase, error_type=type(error).__name__)

    async def _sync_safely(self, *, expunge: bool) -> None:
        try:
            await self._context.sync(expunge=expunge)
        except StoreError as error:
            self._log_failure("imap_sync_failed", error)

    def _enable(self, command: c.Enable) -> bytes:
        """Turn extensions on; what is not known here is left out of the answer.

        Source: RFC 5161 §3.1, RFC 7162 §3.2.3, RFC 6855 §3, RFC 9051 §6.3.1, RFC 9586 §3.
        """
        context = self._context
        told = [name for name in ENABLED if name.upper() in command.names]
        if b"QRESYNC" in told:
            context.qresync = True
        if context.qresync or b"CONDSTORE" in told:
            context.condstore = True
        if b"IMAP4rev2" in told:
            context.rev2 = True
        if b"UIDONLY" in told:
            context.uidonly = True
        if b"UTF8=ACCEPT" in told:
            context.accepts_utf8 = True
        if context.rev2 or context.accepts_utf8:
            context.enable_utf8()
        context.write(b" ".join((b"* ENABLED", *told)) + b"\r\n")
        return b"OK ENABLE completed"

    async def _compress(self, tag: bytes) -> bytes:
        """Compress both ways from the octet after the tagged OK.

        Source: RFC 4978 §3.
        """
        connection = self._connection
        if connection.compressed:
            raise RefusedError(Code.COMPRESSIONACTIVE, "Compressed already")
        if connection.framer.buffered:
            raise BadCommandError("Wait for the answer to COMPRESS")
        self._answer(tag, b"OK DEFLATE active")
        await connection.flush()
        connection.compress()
        return b""

    async def _idle(self) -> bytes:
        """Push changes until ``DONE``. Source: RFC 2177 §3."""
        context, connection = self._context, self._connection
        context.write(b"+ idling\r\n")
        await connection.flush()
        pump = None if self._pushing else context.shared.spawn(self._pump())
        try:
            async with asyncio.timeout(context.bind.limits.idle_deadline_s):
                while True:
                    # First: a DONE that came at once does not silence what happened before.
                    await context.sync(expunge=True)
                    await connection.flush()
                    if context.state is State.LOGOUT:
                        return b""
                    line = connection.framer.next_line()
                    if line is not None:
                        break
                    if connection.at_eof:
                        raise ConnectionGoneError
                    await self._quiet()
        finally:
            if pump is not None:
                pump.cancel()
        if line.upper() != b"DONE":
            raise BadCommandError("Expected DONE")
        return b"OK IDLE completed"

    async def _quiet(self) -> None:
        try:
            await self._connection.wait(IDLE_QUIET_S)
        except TimeoutError:
            self._context.write(b"* OK Still here\r\n")
            await self._connection.flush()

    async def _pump(self) -> None:
        """Wake the idle loop at each change of the mailbox."""
        context = self._context
        while context.subscription is not None:
            await context.subscription.wait()
            context.stirred = True
            self._connection.poke()


def _said(word: bytes, error: BadCommandError | RefusedError) -> bytes:
    text = error.text.encode("ascii")
    if error.code is Code.NONE:
        return b"%b %b" % (word, text)
    return b"%b [%b] %b" % (word, error.code.value.encode("ascii"), text)
