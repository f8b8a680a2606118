"""Thirty ways to write another's address, twenty-three to relay; beside each an honest neighbour.

``{own}`` is the address of who logged in, ``{bob}`` a colleague's. Source: threats S12 and S16.
"""

from dataclasses import dataclass

NOT_YOURS = "553 5.7.1 Not an address of yours"
ONE_FROM = "553 5.7.1 Exactly one From field with one address of yours is required"
MALFORMED = "554 5.6.0 Malformed message"
BAD_PATH = "553 5.1.7 Malformed sender address"
ROUTED = "550 5.7.1 Source routes are refused"


@dataclass(frozen=True, slots=True)
class Form:
    """A message that is refused, and how an honest client writes the same.

    Attributes:
        reply: to the refused one, at MAIL or after the message.
        header: what stands in it besides Date, To and Message-ID; ``path`` is MAIL FROM's.
    """

    name: str
    reply: str
    header: str = "From: {own}"
    path: str = "{own}"
    honest: str = "From: {own}"
    honest_path: str = "{own}"


ENVELOPE = (
    Form("path of a colleague", NOT_YOURS, path="{bob}"),
    Form("path in capitals", NOT_YOURS, path="BOB@{domain}", honest_path="DR.MARTIN@{domain}"),
    Form("path with a tag", NOT_YOURS, path="dr.martin+bob@{domain}"),
    Form("quoted path", NOT_YOURS, path='"bob"@{domain}', honest_path='"dr.martin"@{domain}'),
    Form("path by a route", ROUTED, path="@{domain}:{bob}"),
    Form("path of another domain", NOT_YOURS, path="dr.martin@chu-a.mssante.test"),
    Form("null path, another author", NOT_YOURS, "From: {bob}", path="", honest_path=""),
    Form("path with two addresses", BAD_PATH, path="{own},{bob}"),
)
HEADER = (
    Form("another author", NOT_YOURS, "From: {bob}"),
    Form("in capitals", NOT_YOURS, "FROM: <BOB@{domain}>", honest="FROM: <DR.MARTIN@{domain}>"),
    Form(
        "own address as the name",
        NOT_YOURS,
        'From: "{own}" <{bob}>',
        honest='From: "Dr Martin" <{own}>',
    ),
    Form(
        "own address as a comment",
        NOT_YOURS,
        "From: {bob} ({own})",
        honest="From: {own} (Dr Martin)",
    ),
    Form(
        "another address glued before", ONE_FROM, "From: {bob}<{own}>", honest="From: Dr<{own}>"
    ),
    Form("another address after", ONE_FROM, "From: <{own}> <{bob}>", honest="From: <{own}> (Dr)"),
    Form("two authors", ONE_FROM, "From: {own}, {bob}"),
    Form("two authors, folded", ONE_FROM, "From: {own},\r\n {bob}", honest="From:\r\n {own}"),
    Form("two From fields", ONE_FROM, "From: {own}\r\nFrom: {bob}"),
    Form("two From fields, own last", ONE_FROM, "From: {bob}\r\nFrom: {own}"),
    Form("space before the colon", ONE_FROM, "From: {own}\r\nFrom : {bob}"),
    Form("only with a space before the colon", MALFORMED, "From : {own}"),
    Form(
        "hidden behind a line that is no field",
        MALFORMED,
        "From: {own}\r\n({bob})\r\nSubject: x",
        honest="From: {own}\r\nSubject: x\r\n ({own})",
    ),
    Form("a group", ONE_FROM, "From: Equipe: {bob};", honest="From: Equipe <{own}>"),
    Form("a group with both", ONE_FROM, "From: Equipe: {own}, {bob};"),
    Form("a route", ONE_FROM, "From: <@{domain}:{bob}>", honest="From: <{own}>"),
    Form("quoted", NOT_YOURS, 'From: "bob"@{domain}', honest='From: "dr.martin"@{domain}'),
    Form(
        "as an encoded word",
        ONE_FROM,
        "From: =?utf-8?q?bob=40{domain}?=",
        honest="From: =?utf-8?q?Dr_Martin?= <{own}>",
    ),
    Form("another Sender", NOT_YOURS, "From: {own}\r\nSender: {bob}", honest="From: {own}\r\n"
         "Sender: {own}"),
    Form("two Senders", MALFORMED, "From: {own}\r\nSender: {own}\r\nSender: {bob}"),
    Form("a list as Sender", NOT_YOURS, "From: {own}\r\nSender: {own}, {bob}"),
    Form(
        "another Resent-From",
        NOT_YOURS,
        "Resent-From: {bob}\r\nFrom: {own}",
        honest="Resent-From: {own}\r\nFrom: {own}",
    ),
)  # fmt: skip
FORMS = ENVELOPE + HEADER

NOT_HERE = "550 5.1.1 No such mailbox here"
BAD_RECIPIENT = "553 5.1.3 Malformed recipient address"
BAD_ARGUMENT = "501 5.5.4 Syntax error in arguments"
DENIED = "550 5.7.1 Relaying denied"
"""What an operator is told of a domain that is not ours; a client may write to listed ones."""
NOT_LISTED = "550 5.7.1 The recipient's domain is not on the list of operators"
BEFORE_MAIL = "503 5.5.1 Bad sequence of commands"
"""Whoever may not send at all is refused at MAIL, and RCPT comes out of order."""
EIGHT_BITS = "553 5.6.7 This address needs SMTPUTF8"
RELAYS = {
    "another domain": ("<x@evil.test>", DENIED),
    "in capitals": ("<X@EVIL.TEST>", DENIED),
    "percent": ("<x%evil.test@{domain}>", NOT_HERE),
    "quoted whole": ('<"x@evil.test"@{domain}>', BAD_RECIPIENT),
    "two ats": ("<x@evil.test@{domain}>", BAD_RECIPIENT),
    "two ats, ours first": ("<x@{domain}@evil.test>", BAD_RECIPIENT),
    "a route": ("<@{domain}:x@evil.test>", ROUTED),
    "a longer route": ("<@{domain},@chu-a.mssante.test:x@evil.test>", ROUTED),
    "a bang": ("<evil.test!x@{domain}>", NOT_HERE),
    "only a bang": ("<evil.test!x>", BAD_RECIPIENT),
    "an address literal": ("<x@[127.0.0.1]>", BAD_RECIPIENT),
    "an IPv6 literal": ("<x@[IPv6:::1]>", BAD_RECIPIENT),
    "one label": ("<x@localhost>", BAD_RECIPIENT),
    "a dot after ours": ("<dr.martin@{domain}.>", BAD_RECIPIENT),
    "a dot after theirs": ("<x@evil.test.>", BAD_RECIPIENT),
    "punycode": ("<x@xn--vl-mia.test>", DENIED),
    "ours below theirs": ("<x@{domain}.evil.test>", DENIED),
    "ours with a prefix": ("<x@evil-{domain}>", DENIED),
    "without brackets": ("x@evil.test", BAD_ARGUMENT),
    "quoted local part": ('<"x"@evil.test>', DENIED),
    "postmaster of theirs": ("<postmaster@evil.test>", DENIED),
    "octets of eight bits": ("<x\u00e9@evil.test>", EIGHT_BITS),
    "text after the brackets": ("<dr.martin@{domain}>@evil.test", BAD_ARGUMENT),
}
"""RCPT TO of 23 kinds, and what a listed operator is told; nobody may use one."""
HONEST_RECIPIENTS = (
    "<dr.martin@{domain}>",
    "<DR.MARTIN@{upper}>",
    '<"dr.martin"@{domain}>',
    "<postmaster>",
    "<postmaster@{domain}>",
)
