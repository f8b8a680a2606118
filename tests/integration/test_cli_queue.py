"""``pli queue`` and ``pli message track`` on a running site, as text and as JSON."""

from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from certs.tls import server_context
from tests.support import exchange
from tests.support.capture_peer import CapturePeer, capture_thread
from tests.support.exchange import Letter, Senders
from tests.support.site import DemoSite, pli, pli_result

pytestmark = pytest.mark.timeout(120)
FIRST, SECOND = "<un@hopital-demo.mssante.test>", "<deux@hopital-demo.mssante.test>"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DemoSite]:
    """A demo site that has two messages for an operator whose server is down."""
    made = DemoSite.create(tmp_path_factory.mktemp("queue") / "site")
    made.start()
    person = made.demo["practitioners"][0]["address"]
    to = made.demo["operators"][1]["sender"]
    senders = Senders(exchange.account(made), threads=1)
    # One after the other: the second finds its domain put off and is not tried.
    senders.send(iter([Letter(FIRST, person, to)]))
    assert exchange.until(lambda: [row["attempts"] for row in exchange.queue(made)] == [1], 30)
    senders.send(iter([Letter(SECOND, person, to)]))
    assert [row["attempts"] for row in exchange.queue(made)] == [1, 0]
    yield made
    made.stop()


def there(site: DemoSite, peer: CapturePeer) -> AbstractContextManager[None]:
    """Start the operator's server."""
    operator = site.demo["operators"][1]
    tls = server_context(
        Path(operator["certificate_file"]),
        Path(operator["key_file"]),
        client_ca=Path(site.demo["ca_file"]),
    )
    return capture_thread(peer, tls, int(operator["receiver"]["port"]))


def track(site: DemoSite, name: str) -> dict[str, object]:
    """Give the one line of ``pli message track --json``."""
    (line,) = pli("message", "track", str(site.root), name, "--json")
    return dict(line)


def test_the_queue_is_listed_without_an_address(site: DemoSite) -> None:
    domain = site.demo["operators"][1]["domain"]

    text = pli("queue", "list", str(site.root))
    rows = exchange.queue(site)
    (waiting,) = pli("queue", "list", str(site.root), "--domains", "--json")

    assert "@" not in text
    assert text.splitlines()[0].split() == [
        *("id", "to", "domain", "state", "tries", "next", "try", "last", "answer")
    ]
    assert [(row["domain"], row["state"], row["last_reply"]) for row in rows] == [
        (domain, "queued", "451 4.4.1"),
        (domain, "queued", ""),
    ]
    assert (waiting["domain"], waiting["last_reply"]) == (domain, "451 4.4.1")
    assert waiting["failures"] >= 1


def test_one_line_is_shown_with_all_that_is_known_of_it(site: DemoSite) -> None:
    row = exchange.queue(site)[0]

    shown = pli("queue", "show", str(site.root), str(row["id"]), "--json")
    text = pli("queue", "show", str(site.root), str(row["id"]))

    assert row.items() <= shown.items()
    assert shown["octets"] > 5000
    assert shown["crashes"] == 0
    assert shown["sender_told_at"] is None
    assert shown["receipt"] in text
    assert "@" not in text


@pytest.mark.parametrize(
    "arguments",
    [
        ("queue", "show", "999"),
        ("queue", "retry"),
        ("queue", "delete"),
        ("message", "track", "<nobody@example.test>"),
        ("message", "track", "0123"),
    ],
    ids=" ".join,
)
def test_what_names_nothing_is_an_error_of_one_line(
    site: DemoSite, arguments: tuple[str, ...]
) -> None:
    code, output, errors = pli_result(*arguments[:2], str(site.root), *arguments[2:])

    assert code == 1
    assert output == ""
    assert errors.startswith("error: ")
    assert len(errors.strip().splitlines()) == 1


def test_an_act_says_what_it_left_alone_and_why(site: DemoSite) -> None:
    root = str(site.root)
    first, second = (str(row["id"]) for row in exchange.queue(site))
    domain = site.demo["operators"][1]["domain"]

    assert pli("queue", "release", root, first) == (
        f"changed: 0\nnot changed: {first} is not held\n"
    )
    assert pli("queue", "hold", root, first, second) == "changed: 2\n"
    assert pli("queue", "retry", root, first) == (
        f"changed: 0\nnot changed: {first} is held; 'pli queue release' lets it go\n"
    )
    assert pli("queue", "hold", root, "--domain", domain).splitlines()[0] == "changed: 0"
    assert "pli queue list" in pli("queue", "hold", root, "--domain", domain)
    assert pli("queue", "release", root, first, second) == "changed: 2\n"


def test_mail_is_held_released_sent_deleted_and_tracked(site: DemoSite) -> None:
    root = str(site.root)
    first, second = (row["id"] for row in exchange.queue(site))
    to = site.demo["operators"][1]["sender"]
    assert track(site, FIRST)["state"] == "submitted"

    assert pli("queue", "hold", root, str(first), "--json") == {"changed": 1, "unchanged": []}
    peer = CapturePeer()
    with there(site, peer):
        pli("queue", "retry", root, "--domain", site.demo["operators"][1]["domain"])
        assert exchange.until(lambda: len(exchange.queue(site)) == 1, 30)
        assert [each.message_id for each in peer.taken] == [SECOND]
        assert [row["state"] for row in exchange.queue(site)] == ["held"]
        assert pli("queue", "delete", root, str(first), str(second)).splitlines() == [
            "changed: 1",
            f"not changed: {second} is not in the queue: sent, given up or deleted",
        ]

    assert exchange.queue(site) == []
    deleted, sent = track(site, FIRST), track(site, SECOND)
    assert (deleted["recipient"], deleted["state"], deleted["code"]) == (
        to,
        "failed",
        "554 5.7.0",
    )
    assert (sent["state"], sent["verdict"], sent["displayed"]) == ("relayed", None, False)
    assert track(site, str(sent["receipt"])) == sent
    assert to in pli("message", "track", root, SECOND)
