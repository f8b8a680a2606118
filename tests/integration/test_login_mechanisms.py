"""The same exchanges over IMAP and over submission: who gets in, and what the wire says.

Both front ends use one implementation; every test here runs on both. Source: RFC 4422 §3,
RFC 5802 §5, RFC 4954 §4, RFC 9051 §6.2.2; RULES §12, threats S10.
"""

from base64 import b64encode

import pytest

from certs.tls import end_point
from tests.support.login_line import FRONTS, Door, LoginLine, doors
from tests.support.scram import ScramClient

pytestmark = pytest.mark.timeout(60)


@pytest.fixture(params=FRONTS)
async def door(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory):
    async with doors(request.param, tmp_path_factory.mktemp("login")) as opened:
        yield opened


async def scram(line: LoginLine, client: ScramClient, *, initial: bool = True) -> str:
    name = "SCRAM-SHA-256" if client.flag in {"n", "y"} else "SCRAM-SHA-256-PLUS"
    if initial:
        challenge = await line.begin(name, client.first())
    else:
        assert await line.begin(name) == b""
        challenge = await line.answer(client.first())
    if isinstance(challenge, str):
        return challenge
    last = await line.answer(client.final(challenge))
    if isinstance(last, str):
        return last
    client.check(last)
    said = await line.answer(b"")
    assert isinstance(said, str)
    return said


@pytest.mark.parametrize("initial", [True, False])
@pytest.mark.parametrize("plus", [True, False])
async def test_scram_lets_in_who_knows_the_secret(door: Door, initial: bool, plus: bool) -> None:  # noqa: FBT001
    line = await door.line()
    binding = end_point_of(door) if plus else None

    said = await scram(line, ScramClient(door.login, door.secret, binding), initial=initial)

    assert line.accepted(said)
    assert await line.is_in()


def end_point_of(door: Door) -> bytes:
    """Compute from the certificate file what the server computed for itself."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes

    certificate = x509.load_pem_x509_certificates(door.certificate.read_bytes())[0]
    assert isinstance(certificate.signature_hash_algorithm, hashes.SHA256)
    return certificate.fingerprint(hashes.SHA256())


async def test_scram_without_a_certificate_context_binds_nothing(door: Door) -> None:
    assert end_point(None) is None
    line = await door.line()
    client = ScramClient(door.login, door.secret, b"\x02" * 32)

    assert line.refused(await scram(line, client)), "bound to another certificate"
    assert not await line.is_in()


async def test_scram_that_was_downgraded_is_refused(door: Door) -> None:
    line = await door.line()
    client = ScramClient(door.login, door.secret)
    client.flag = "y"

    assert line.refused(await scram(line, client))
    assert not await line.is_in()


async def test_a_wrong_secret_and_an_unknown_name_are_told_the_same(door: Door) -> None:
    said = []
    for login, secret in ((door.login, "x" * 24), ("nobody@nowhere.test", door.secret)):
        line = await door.line()
        client = ScramClient(login, secret)
        challenge = await line.begin("SCRAM-SHA-256", client.first())
        assert isinstance(challenge, bytes)
        assert challenge.endswith(b",i=4096")
        said.append(await line.answer(client.final(challenge)))
    assert said[0] == said[1]
    assert line.refused(str(said[0]))


async def test_the_salt_of_a_name_stays_the_same_and_differs_from_anothers(door: Door) -> None:
    async def salt(login: str) -> bytes:
        line = await door.line()
        challenge = await line.begin("SCRAM-SHA-256", ScramClient(login, "x").first())
        assert isinstance(challenge, bytes)
        return challenge.split(b",")[1]

    names = (door.login, door.login.upper(), "nobody@nowhere.test", "other@nowhere.test")
    known, same, unknown, other = [await salt(name) for name in names]
    assert known == same
    assert unknown == await salt("nobody@nowhere.test")
    assert len({known, unknown, other}) == 3
    assert all(len(each) == len(known) for each in (unknown, other))


@pytest.mark.parametrize("initial", [True, False])
async def test_login_works_as_outlook_says_it(door: Door, initial: bool) -> None:  # noqa: FBT001
    line = await door.line()
    if initial:
        challenge = await line.begin("LOGIN", door.login.encode())
    else:
        assert await line.begin("login") == b"Username:"
        challenge = await line.answer(door.login.encode())
    assert challenge == b"Password:"
    said = await line.answer(door.secret.encode())

    assert line.accepted(str(said))
    assert await line.is_in()


async def test_plain_for_somebody_else_is_a_wrong_login(door: Door) -> None:
    line = await door.line()
    said = await line.begin("PLAIN", f"{door.other}\0{door.login}\0{door.secret}".encode())

    assert line.refused(str(said))
    assert not await line.is_in()


async def test_a_second_auth_in_the_middle_of_one_starts_nothing(door: Door) -> None:
    plain = b64encode(f"\0{door.login}\0{door.secret}".encode()).decode()
    for first in ("PLAIN", "LOGIN", "SCRAM-SHA-256"):
        line = await door.line()
        assert isinstance(await line.begin(first), bytes)

        said = await line.say(line.command("PLAIN", plain))

        assert line.malformed(said), "the second command is a bad response to the first"
        assert not await line.is_in()
        assert line.accepted(
            str(await line.begin("PLAIN", f"\0{door.login}\0{door.secret}".encode()))
        )


@pytest.mark.parametrize("mechanism", ["PLAIN", "LOGIN", "SCRAM-SHA-256"])
async def test_what_two_exchanges_said_is_never_put_together(door: Door, mechanism: str) -> None:
    line = await door.line()
    await line.begin(mechanism)
    assert line.cancelled(await line.say("*"))
    assert await line.begin("LOGIN") == b"Username:", "and not Password:"
    assert line.cancelled(await line.say("*"))
    assert not await line.is_in()


async def test_mechanisms_that_need_what_is_not_there_are_not_announced(door: Door) -> None:
    line = await door.line()

    assert line.announced == {"SCRAM-SHA-256-PLUS", "SCRAM-SHA-256", "PLAIN", "LOGIN"}
    for name in ("EXTERNAL", "OAUTHBEARER", "XOAUTH2", "CRAM-MD5", "SCRAM-SHA-1"):
        assert line.unknown(str(await line.begin(name, b"x")))


async def test_nothing_is_announced_before_tls(door: Door) -> None:
    line = await door.plain_line()

    assert line.announced == set()
    said = await line.begin("SCRAM-SHA-256", b"n,,n=a,r=b")
    assert line.needs_tls(str(said))
