"""Threats I1 to I7 and S4 against a running server.

Source: RFC 3501 §6.2.1.
"""

import asyncio
import base64
import time

import pytest

from mailserver.imap.server import ImapLimits
from tests.support.imap_peer import ImapPeer
from tests.support.imap_site import ALICE, BOB, SECRET, ImapSite, serve

PLAIN = base64.b64encode(f"\0{ALICE}\0{SECRET}".encode())


async def tls(site: ImapSite) -> ImapPeer:
    return await ImapPeer.connect(site.tls_port, site.client_tls)


async def still_serves(site: ImapSite) -> None:
    peer = await ImapPeer.login(site)
    await peer.ok("NOOP")
    await peer.close()


@pytest.mark.parametrize(
    "line",
    [
        b"a LOGIN {2147483647+}\r\n",
        b"a LOGIN {99999999999999999999+}\r\n",
        b"a LOGIN {4097+}\r\n",
        b"a LOGIN " + b"{1+}\r\nx " * 100_000,
        b"a" * 8193,
        b"a NOOP " + b"(" * 100_000,
        b"a NOOP " + b")" * 100_000,
    ],
)
async def test_i1_oversize_before_login_is_refused_and_hung_up_on(line):
    async with serve() as site:
        peer = await tls(site)
        peer.send(line)
        said = await peer.eof()

        assert b"BAD" in said
        assert b"BYE" in said
        await still_serves(site)


@pytest.mark.parametrize(
    "line", [b"a LOGIN {-1}\r\n", b"a LOGIN {4097}\r\n", b"a LOGIN {99999999999999999999}\r\n"]
)
async def test_i1_announced_oversize_before_login_is_bad(line):
    async with serve() as site:
        peer = await tls(site)
        peer.send(line)
        assert (await peer.line()).startswith(b"a BAD")
        await peer.close()


async def test_i1_five_hundred_connections_stuck_in_a_literal_hinder_nobody():
    async with serve() as site:
        stuck = [await ImapPeer.connect(site.port) for _ in range(100)]
        for peer in stuck:
            peer.send(b"a LOGIN {4096+}\r\nx")
        await still_serves(site)
        for peer in stuck:
            await peer.close()


@pytest.mark.parametrize(
    "command",
    [
        b"SEARCH " + b"OR " * 10_000 + b"ALL",
        b"SEARCH " + b"NOT " * 10_000 + b"ALL",
        b"SEARCH " + b"(" * 4000,
        b"FETCH 1 BODY[" + b"1." * 10_000 + b"1]",
        b"FETCH 0 FLAGS",
        b"FETCH 4294967296 FLAGS",
        b"FETCH 1:4294967295 FLAGS",
        b"FETCH " + b",".join(b"%d" % n for n in range(1, 12_000)) + b" FLAGS",
    ],
)
async def test_i2_i3_i5_nesting_sets_and_sections_are_bad_within_a_second(command):
    async with serve() as site:
        await site.put(b"Subject: x\r\n\r\ny")
        peer = await ImapPeer.login(site)
        await peer.ok("SELECT INBOX")
        started = time.process_time()
        _, reply = await peer.do(command)

        assert reply.startswith(b"BAD")
        assert time.process_time() - started < 1
        await peer.ok("NOOP")
        await peer.close()


async def test_i3_a_wide_uid_range_costs_what_is_there():
    async with serve() as site:
        await site.put(b"Subject: x\r\n\r\ny")
        peer = await ImapPeer.login(site)
        await peer.ok("SELECT INBOX")
        assert await peer.ok("UID FETCH 1:4294967295 FLAGS") == [b"* 1 FETCH (UID 1 FLAGS ())\r\n"]
        await peer.ok("SELECT Archive")
        assert await peer.ok("UID FETCH 1:* FLAGS") == []
        await peer.close()


async def test_i4_a_pattern_of_sixty_stars_is_quick():
    async with serve() as site:
        peer = await ImapPeer.login(site)
        for at in range(50):
            await peer.ok(f"CREATE {'a' * 100}{at}")
        started = time.process_time()
        assert await peer.ok('LIST "" "' + "*a" * 60 + '*b"') == []
        assert time.process_time() - started < 0.3
        await peer.close()


async def test_i6_pipelined_commands_run_after_the_state_they_need():
    async with serve() as site:
        await site.put(b"Subject: x\r\n\r\ny")
        peer = await tls(site)
        peer.send(
            f'a LOGIN {ALICE} "{SECRET}"\r\nb SELECT INBOX\r\nc FETCH 1 UID\r\n'.encode()
            + f'd LOGIN {BOB} "{SECRET}"\r\ne FETCH 1 UID\r\nf LOGOUT\r\n'.encode()
        )
        said = (await peer.eof()).decode().splitlines()
        tagged = [line[:5].rstrip() for line in said if line[0] != "*"]

        assert tagged == ["a OK", "b OK", "c OK", "d BAD", "e OK", "f OK"]


async def test_i6_pipelined_commands_of_a_failed_login_run_unauthenticated():
    async with serve() as site:
        peer = await tls(site)
        peer.send(f"a LOGIN {ALICE} wrong\r\nb SELECT INBOX\r\nc NOOP\r\n".encode())
        replies = [await peer.line() for _ in range(3)]

        assert [reply[:5] for reply in replies] == [b"a NO ", b"b BAD", b"c OK "]
        await peer.close()


@pytest.mark.parametrize(
    "name",
    [
        "../bob/INBOX",
        "/etc/passwd",
        "INBOX/../../x",
        '"..\\\\.."',
        "~bob",
        "a//b",
        "x" * 10_000,
    ],
)
async def test_i7_names_never_lead_elsewhere(name):
    async with serve() as site:
        peer = await ImapPeer.login(site)
        for command in (f"CREATE {name}", f"RENAME Archive {name}"):
            _, reply = await peer.do(command)
            assert reply.startswith((b"NO [CANNOT]", b"BAD"))
        for command in (f"SELECT {name}", f"STATUS {name} (MESSAGES)", f"DELETE {name}"):
            _, reply = await peer.do(command)
            assert reply.startswith((b"NO [NONEXISTENT]", b"NO [CANNOT]", b"BAD"))
        await peer.close()


async def test_i7_dot_dot_in_modified_utf7_is_no_name():
    async with serve() as site:
        peer = await ImapPeer.login(site)
        _, reply = await peer.do("CREATE &AC4ALg-/x")
        assert reply.startswith(b"BAD")
        await peer.close()


async def test_i7_the_folders_of_another_mailbox_are_not_reached():
    async with serve() as site:
        other = await ImapPeer.login(site, BOB)
        await other.ok("CREATE Private")
        await site.put(b"Subject: bob\r\n\r\ny", address=BOB)
        peer = await ImapPeer.login(site)
        assert not any(b"Private" in line for line in await peer.ok('LIST "" *'))
        _, reply = await peer.do("SELECT Private")
        assert reply.startswith(b"NO [NONEXISTENT]")
        await peer.ok("SELECT INBOX")
        assert await peer.ok("UID FETCH 1:* BODY.PEEK[]") == []
        for one in (peer, other):
            await one.close()


@pytest.mark.parametrize("behind", [b"b NOOP\r\n", b"b LOGIN x y\r\n", b"\0", b"b"])
async def test_s4_what_is_sent_behind_starttls_is_never_answered(behind):
    async with serve() as site:
        peer = await ImapPeer.connect(site.port)
        peer.send(b"a STARTTLS\r\n" + behind)
        said = await peer.eof()

        assert b"a BAD" in said
        assert b"\nb " not in said
        await still_serves(site)


async def test_s4_what_is_sent_just_after_starttls_is_never_answered():
    async with serve() as site:
        peer = await ImapPeer.connect(site.port)
        peer.send(b"a STARTTLS\r\n")
        assert (await peer.line()).startswith(b"a OK")
        peer.send(b"b NOOP\r\n")
        said = await peer.eof()

        assert b"b OK" not in said
        await still_serves(site)


async def test_s4_after_starttls_the_state_is_fresh_and_starttls_is_gone():
    async with serve() as site:
        peer = await ImapPeer.connect(site.port)
        assert b"STARTTLS" in peer.greeting
        assert b"LOGINDISABLED" in peer.greeting
        assert b"AUTH=PLAIN" not in peer.greeting
        await peer.ok("STARTTLS")
        await peer.writer.start_tls(site.client_tls, server_hostname="localhost")
        (capability,) = await peer.ok("CAPABILITY")
        assert b"STARTTLS" not in capability
        assert b"AUTH=PLAIN" in capability
        _, reply = await peer.do("STARTTLS")
        assert reply.startswith(b"BAD")
        await peer.ok(f'LOGIN {ALICE} "{SECRET}"')
        await peer.close()


async def test_a_password_is_refused_in_clear_before_it_is_looked_at():
    async with serve() as site:
        peer = await ImapPeer.connect(site.port)
        for command in (f'LOGIN {ALICE} "{SECRET}"', b"AUTHENTICATE PLAIN " + PLAIN):
            _, reply = await peer.do(command)
            assert reply.startswith(b"NO [PRIVACYREQUIRED]")
        await peer.close()


async def test_a_listed_address_may_log_in_in_clear():
    async with serve(plaintext=frozenset({"127.0.0.1"})) as site:
        peer = await ImapPeer.connect(site.port)
        assert b"AUTH=PLAIN" in peer.greeting
        await peer.ok(f'LOGIN {ALICE} "{SECRET}"')
        await peer.close()


async def test_authenticate_plain_with_and_without_initial_response():
    async with serve() as site:
        peer = await tls(site)
        await peer.ok(b"AUTHENTICATE PLAIN " + PLAIN)
        await peer.close()
        peer = await tls(site)
        tag = peer.start("AUTHENTICATE PLAIN")
        assert await peer.line() == b"+ \r\n"
        peer.send(b"*\r\n")
        assert (await peer.until(tag))[1].startswith(b"BAD")
        tag = peer.start("AUTHENTICATE PLAIN")
        await peer.line()
        peer.send(PLAIN + b"\r\n")
        assert (await peer.until(tag))[1].startswith(b"OK [CAPABILITY")
        await peer.close()


async def test_unknown_login_and_wrong_secret_get_the_same_answer():
    async with serve() as site:
        peer = await tls(site)
        _, wrong = await peer.do(f"LOGIN {ALICE} wrong")
        _, unknown = await peer.do("LOGIN nobody@nowhere.test wrong")
        assert wrong == unknown
        await peer.close()


@pytest.mark.parametrize("attempts", [1, 3])
async def test_attempts_are_counted_and_the_last_hangs_up(attempts):
    async with serve(ImapLimits(login_delay_s=0.001, login_attempts=attempts)) as site:
        peer = await tls(site)
        for _ in range(attempts):
            _, reply = await peer.do(f"LOGIN {ALICE} wrong")
            assert reply.startswith(b"NO [AUTHENTICATIONFAILED]")
        assert await peer.eof() == b""


async def test_a_client_that_never_logs_in_is_hung_up_on():
    async with serve(ImapLimits(login_deadline_s=0.2)) as site:
        peer = await tls(site)
        for _ in range(3):
            await asyncio.sleep(0.05)
            await peer.ok("NOOP")
        assert b"BYE" in await peer.eof()


async def test_an_idle_client_is_hung_up_on_after_the_deadline():
    async with serve(ImapLimits(idle_deadline_s=0.2)) as site:
        peer = await ImapPeer.login(site)
        assert b"BYE" in await peer.eof()
        idler = await ImapPeer.login(site)
        idler.start("IDLE")
        assert b"BYE" in await idler.eof()


@pytest.mark.parametrize("verb", [b"GET / HTTP/1.1", b"POST / HTTP/1.1"])
async def test_a_browser_is_hung_up_on_without_an_echo(verb):
    async with serve() as site:
        peer = await tls(site)
        peer.send(verb + b"\r\nHost: <script>\r\n\r\n")
        said = await peer.eof()
        assert b"script" not in said
        assert said.startswith(b"* BYE")


async def test_bad_commands_before_login_are_counted():
    async with serve() as site:
        peer = await tls(site)
        peer.send(b"a X\r\nb X\r\nc X\r\nd X\r\n")
        said = await peer.eof()
        assert said.count(b"BAD") == 3
        assert b"BYE" in said


@pytest.mark.parametrize(
    "limits", [ImapLimits(connections=2), ImapLimits(connections_per_address=2)]
)
async def test_connections_over_the_limit_are_refused_until_one_ends(limits):
    async with serve(limits) as site:
        first, second = await ImapPeer.connect(site.port), await ImapPeer.connect(site.port)
        third = await ImapPeer.connect(site.port)
        assert third.greeting.startswith(b"* BYE")
        await first.ok("LOGOUT")
        await first.eof()
        await asyncio.sleep(0.05)
        fourth = await ImapPeer.connect(site.port)
        assert fourth.greeting.startswith(b"* OK")
        for peer in (second, third, fourth):
            await peer.close()


async def test_no_reply_repeats_what_was_sent():
    async with serve() as site:
        peer = await ImapPeer.login(site)
        for command in ("ZZCANARY", "SELECT ZZCANARY", "FETCH ZZCANARY", "STORE 1 ZZCANARY x"):
            lines, reply = await peer.do(command)
            assert b"ZZCANARY" not in b"".join([*lines, reply])
        await peer.close()


async def test_server_owned_keywords_are_refused_but_to_the_application():
    async with serve() as site:
        from tests.support.imap_site import APPLICATION

        await site.put(b"Subject: x\r\n\r\ny", keywords=frozenset({"$Filed"}))
        await site.put(b"Subject: x\r\n\r\ny", address=APPLICATION)
        peer = await ImapPeer.login(site)
        await peer.ok("SELECT INBOX")
        for keyword in ("$Filed", "$filed", "$SignatureValid", "$Held", "$Quarantined"):
            _, reply = await peer.do(f"STORE 1 +FLAGS ({keyword})")
            assert reply.startswith(b"NO [NOPERM]")
        assert await peer.ok("FETCH 1 FLAGS") == [b"* 1 FETCH (FLAGS ())\r\n"]
        bridge = await ImapPeer.login(site, APPLICATION)
        await bridge.ok("SELECT INBOX")
        lines = await bridge.ok("STORE 1 +FLAGS ($Filed)")
        assert lines[-1] == b"* 1 FETCH (FLAGS ($Filed))\r\n"
        _, reply = await bridge.do("STORE 1 +FLAGS ($SignatureValid)")
        assert reply.startswith(b"NO [NOPERM]")
        selected = await bridge.ok("SELECT INBOX")
        assert not any(b"PERMANENTFLAGS" in line and b"$Filed" in line for line in selected)
        for one in (peer, bridge):
            await one.close()
