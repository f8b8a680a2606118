"""Messages that one reader may split otherwise than another, a package hidden in each.

Families after the published research on hiding content from gateways: doubled and odd Content-Type
fields, boundaries that some trim or unquote, delimiter lines that are almost one, encodings that
are almost base64, names of files in every form, structures that are not closed or hold parts where
none belong. Source: threats S20, RFC 2046 §5.1, RFC 2045 §6, RFC 2231 §3.
"""

import itertools
from base64 import b64encode
from collections.abc import Iterator

from tests.support.cda import CdaSpec, cda
from tests.support.xdm import package

PACKAGE = package(cda(CdaSpec()))
_BODY = b64encode(PACKAGE).decode()
_LINES = "\r\n".join(_BODY[at : at + 76] for at in range(0, len(_BODY), 76))
_TOP = "From: <a@b.test>\r\nTo: <c@d.test>\r\nSubject: s\r\nMessage-ID: <1@b.test>\r\n"
_VERSION = "MIME-Version: 1.0\r\n"
_NAME = "Content-Disposition: attachment; filename=IHE_XDM.zip\r\n"
_ZIP = f"Content-Type: application/zip\r\n{_NAME}Content-Transfer-Encoding: base64\r\n"
_TEXT = "Content-Type: text/plain\r\n\r\nBonjour\r\n"


def _two(line: str = "--b", part: str = f"{_ZIP}\r\n{_LINES}", end: str = "--b--") -> str:
    return f"{line}\r\n{_TEXT}{line}\r\n{part}\r\n{end}\r\n"


def _with_fields(fields: str, body: str | None = None) -> bytes:
    return f"{_TOP}{_VERSION}{fields}\r\n{_two() if body is None else body}".encode("latin-1")


def _types() -> Iterator[tuple[str, bytes]]:
    mixed = "Content-Type: multipart/mixed; boundary=b\r\n"
    fields = {
        "plain": mixed,
        "text-then-mixed": f"Content-Type: text/plain\r\n{mixed}",
        "mixed-then-text": f"{mixed}Content-Type: text/plain\r\n",
        "two-boundaries": f"{mixed}Content-Type: multipart/mixed; boundary=c\r\n",
        "other-boundary-first": f"Content-Type: multipart/mixed; boundary=c\r\n{mixed}",
        "three": f"Content-Type: text/html\r\n{mixed}Content-Type: text/plain\r\n",
        "same-twice": mixed * 2,
        "upper": mixed.upper().replace("BOUNDARY=B", "BOUNDARY=b"),
        "empty-then-mixed": f"Content-Type:\r\n{mixed}",
        "space-before-colon": mixed.replace("Type:", "Type :"),
        "tab-before-colon": mixed.replace("Type:", "Type\t:"),
        "folded": mixed.replace("; ", ";\r\n "),
        "folded-tab": mixed.replace("; ", ";\r\n\t"),
        "folded-before": mixed.replace(": ", ":\r\n "),
        "comment-before": mixed.replace(": ", ": (x) "),
        "comment-in-type": mixed.replace("multipart/", "multipart(x)/"),
        "comment-after-type": mixed.replace("mixed;", "mixed (x);"),
        "comment-holds-boundary": mixed.replace("mixed;", "mixed (; boundary=c);"),
        "space-round-slash": mixed.replace("multipart/mixed", "multipart / mixed"),
        "unknown-subtype": mixed.replace("mixed", "zzz"),
        "alternative": mixed.replace("mixed", "alternative"),
        "related": mixed.replace("mixed", "related"),
        "digest": mixed.replace("mixed", "digest"),
        "report": mixed.replace("mixed", "report"),
        "no-subtype": mixed.replace("multipart/mixed", "multipart"),
        "empty-subtype": mixed.replace("multipart/mixed", "multipart/"),
        "comma": mixed.replace("mixed;", "mixed,"),
        "no-separator": mixed.replace("mixed; ", "mixed "),
        "two-types-in-one": mixed.replace("multipart/mixed", "text/plain, multipart/mixed"),
        "text-with-boundary": mixed.replace("multipart/mixed", "text/plain"),
        "charset-first": mixed.replace("mixed;", 'mixed; charset="utf-7";'),
        "encoded-word": mixed.replace("multipart/mixed", "=?utf-8?q?multipart/mixed?="),
        "underscore-field": mixed.replace("Content-Type", "Content_Type"),
        "resent": mixed.replace("Content-Type", "Resent-Content-Type"),
    }
    for name, text in fields.items():
        yield f"type/{name}", _with_fields(text)


_BOUNDARIES = {
    "quoted": '"b"',
    "half-quoted": '"b',
    "ends-quoted": 'b"',
    "single-quoted": "'b'",
    "blank-in-quotes": '"b "',
    "blank-before-in-quotes": '" b"',
    "escaped": '"\\b"',
    "nul": '"b\0"',
    "semicolon": '"b;c"',
    "comment": "b (c)",
    "comment-glued": "b(c)",
    "empty": '""',
    "nothing": "",
    "junk-after": 'b"c"',
    "quoted-junk-after": '"b"c',
    "two-words": "b c",
    "eight-bit": '"b\xe9"',
    "long": "b" * 71,
    "very-long": "b" * 300,
    "equals": "b=c",
    "angle": "<b>",
    "encoded-word": '"=?utf-8?q?b?="',
    "double-dash": "--b",
    "ends-dash": "b--",
    "tab": "b\t",
    "comma": "b,c",
}
_PARAMETERS = {
    "doubled": "boundary=b; boundary=c",
    "doubled-turned": "boundary=c; boundary=b",
    "doubled-quoted": 'boundary="b"; boundary=b',
    "extended": "boundary*=us-ascii''b",
    "extended-and-plain": "boundary=c; boundary*=us-ascii''b",
    "continued": "boundary*0=b",
    "continued-and-plain": "boundary=c; boundary*0=b",
    "percent": "boundary*=us-ascii''%62",
    "upper": "BOUNDARY=b",
    "blank-round-equals": "boundary = b",
    "no-equals": "boundary b",
    "other-parameter-holds-it": 'x="; boundary=c"; boundary=b',
    "unclosed-parameter-before": 'x="; boundary=b',
    "charset-eats": 'charset="utf-8; boundary=b"; boundary=c',
    "missing": "x=y",
}


def _boundaries() -> Iterator[tuple[str, bytes]]:
    for name, value in _BOUNDARIES.items():
        field = f"Content-Type: multipart/mixed; boundary={value}\r\n"
        bare = value.strip('"')
        for how, line in (("b", "b"), ("as-written", bare), ("trimmed", bare.strip())):
            yield (
                f"boundary/{name}/{how}",
                _with_fields(field, _two(f"--{line}", end=f"--{line}--")),
            )
    for name, text in _PARAMETERS.items():
        for line in ("b", "c"):
            yield (
                f"parameter/{name}/{line}",
                _with_fields(
                    f"Content-Type: multipart/mixed; {text}\r\n",
                    _two(f"--{line}", end=f"--{line}--"),
                ),
            )


def _delimiters() -> Iterator[tuple[str, bytes]]:
    mixed = "Content-Type: multipart/mixed; boundary=b\r\n"
    lines = {
        "blank-after": "--b ",
        "tab-after": "--b\t",
        "text-after": "--b x",
        "longer": "--bb",
        "upper": "--B",
        "blank-between": "-- b",
        "blank-before": " --b",
        "one-dash": "-b",
        "three-dashes": "---b",
        "quoted": '--"b"',
        "nul-after": "--b\0",
    }
    ends = {
        "none": "",
        "open": "--b-",
        "text": "--b-- x",
        "blank": "--b-- ",
        "twice": "--b--\r\n--b--",
    }
    for name, line in lines.items():
        yield f"delimiter/{name}", _with_fields(mixed, _two(line))
        first = f"--b\r\n{_TEXT}{line}\r\n{_ZIP}\r\n{_LINES}\r\n--b--\r\n"
        yield f"delimiter/{name}/second", _with_fields(mixed, first)
    for name, end in ends.items():
        yield f"end/{name}", _with_fields(mixed, _two(end=end))
    after = f"--b\r\n{_TEXT}--b--\r\n--b\r\n{_ZIP}\r\n{_LINES}\r\n--b--\r\n"
    yield "end/part-after", _with_fields(mixed, after)
    yield "end/part-before", _with_fields(mixed, f"{_ZIP}\r\n{_LINES}\r\n{_two('--b', _TEXT)}")


def _encodings() -> Iterator[tuple[str, bytes]]:
    fields = {
        "base64": "base64",
        "upper": "BASE64",
        "comment": "base64 (x)",
        "comment-before": "(x) base64",
        "quoted": '"base64"',
        "two": "base64, quoted-printable",
        "parameter": "base64; x=y",
        "unknown": "x-base64",
        "empty": "",
        "blank-inside": "base 64",
        "seven-bit": "7bit",
        "uuencode": "x-uuencode",
        "folded": "\r\n base64",
        "doubled": "base64\r\nContent-Transfer-Encoding: 7bit",
        "doubled-turned": "7bit\r\nContent-Transfer-Encoding: base64",
        "doubled-same": "base64\r\nContent-Transfer-Encoding: base64",
    }
    middle = len(_BODY) // 2 // 4 * 4
    bodies = {
        "sound": _LINES,
        "one-line": _BODY,
        "junk": _LINES.replace("\r\n", "!!\r\n", 3),
        "blanks": _LINES.replace("\r\n", " \r\n\t", 3),
        "padded-inside": f"{_BODY[:middle]}====\r\n{_BODY[middle:]}",
        "short-line-inside": f"{_BODY[:middle]}=\r\n{_BODY[middle:]}",
        "no-padding": _BODY.rstrip("="),
        "url-safe": _BODY.replace("+", "-").replace("/", "_"),
        "nul": f"{_BODY[:middle]}\0{_BODY[middle:]}",
        "text-after": f"{_LINES}\r\n\r\nBonjour",
        "dashes": f"{_BODY[:middle]}\r\n--\r\n{_BODY[middle:]}",
        "empty-lines": _LINES.replace("\r\n", "\r\n\r\n", 5),
    }
    mixed = "Content-Type: multipart/mixed; boundary=b\r\n"
    for (how, value), (name, body) in itertools.product(fields.items(), bodies.items()):
        if how != "base64" and name not in {"sound", "junk", "padded-inside"}:
            continue
        zipped = f"Content-Type: application/zip\r\n{_NAME}Content-Transfer-Encoding: {value}\r\n"
        yield f"encoding/{how}/{name}", _with_fields(mixed, _two(part=f"{zipped}\r\n{body}"))
        yield (
            f"encoding-at-top/{how}/{name}",
            f"{_TOP}{_VERSION}{zipped}\r\n{body}\r\n".encode("latin-1"),
        )


def _names() -> Iterator[tuple[str, bytes]]:
    mixed = "Content-Type: multipart/mixed; boundary=b\r\n"
    dispositions = {
        "quoted": 'attachment; filename="IHE_XDM.zip"',
        "upper": "attachment; FILENAME=IHE_XDM.ZIP",
        "inline": "inline; filename=IHE_XDM.zip",
        "unknown": "zzz; filename=IHE_XDM.zip",
        "no-type": "filename=IHE_XDM.zip",
        "doubled": "attachment; filename=a.txt; filename=IHE_XDM.zip",
        "doubled-turned": "attachment; filename=IHE_XDM.zip; filename=a.txt",
        "extended": "attachment; filename*=utf-8''IHE%5FXDM.zip",
        "extended-and-plain": "attachment; filename=a.txt; filename*=utf-8''IHE_XDM.zip",
        "plain-and-extended": "attachment; filename=IHE_XDM.zip; filename*=utf-8''a.txt",
        "continued": 'attachment; filename*0="IHE_"; filename*1="XDM.zip"',
        "continued-turned": 'attachment; filename*1="XDM.zip"; filename*0="IHE_"',
        "continued-gap": 'attachment; filename*0="IHE_XDM.zip"; filename*2=".txt"',
        "encoded-word": 'attachment; filename="=?utf-8?q?IHE=5FXDM.zip?="',
        "encoded-word-base64": 'attachment; filename="=?utf-8?b?SUhFX1hETS56aXA=?="',
        "path": 'attachment; filename="C:\\\\docs\\\\IHE_XDM.zip"',
        "slash": "attachment; filename=docs/IHE_XDM.zip",
        "blank-after": 'attachment; filename="IHE_XDM.zip "',
        "dot-after": 'attachment; filename="IHE_XDM.zip."',
        "nul": 'attachment; filename="IHE_XDM.zip\0.txt"',
        "escaped": 'attachment; filename="IHE\\_XDM.zip"',
        "comment": "attachment (x); filename=IHE_XDM.zip (y)",
        "folded": "attachment;\r\n filename=IHE_XDM.zip",
        "half-quoted": 'attachment; filename="IHE_XDM.zip',
        "two-fields": "attachment; filename=a.txt\r\nContent-Disposition: attachment; filename=IHE_XDM.zip",
        "two-fields-turned": "attachment; filename=IHE_XDM.zip\r\nContent-Disposition: attachment; filename=a.txt",
    }
    for name, value in dispositions.items():
        for kind in ("application/zip", "text/plain", "application/octet-stream; name=a.txt"):
            zipped = (
                f"Content-Type: {kind}\r\nContent-Disposition: {value}\r\n"
                f"Content-Transfer-Encoding: base64\r\n\r\n{_LINES}"
            )
            yield f"name/{name}/{kind.partition(';')[0]}", _with_fields(mixed, _two(part=zipped))


def _structures() -> Iterator[tuple[str, bytes]]:
    mixed = "Content-Type: multipart/mixed; boundary=b\r\n"
    whole = f"{_ZIP}\r\n{_LINES}"
    nested = "Content-Type: multipart/mixed; boundary={}\r\n\r\n{}"
    inner = _two("--c", end="--c--")
    parts = {
        "nested": nested.format("c", inner),
        "nested-same-boundary": nested.format("b", _two()),
        "nested-longer-boundary": nested.format("bb", _two("--bb", end="--bb--")),
        "nested-not-closed": nested.format("c", _two("--c", end="")),
        "forwarded": f"Content-Type: message/rfc822\r\n\r\n{_TOP}{_VERSION}{whole}",
        "forwarded-base64": (
            "Content-Type: message/rfc822\r\nContent-Transfer-Encoding: base64\r\n\r\n"
            + b64encode(f"{_TOP}{_VERSION}{whole}".encode()).decode()
        ),
        "forwarded-printable": (
            "Content-Type: message/rfc822\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n"
            f"{_TOP}{_VERSION}{whole}".replace("=", "=3D")
        ),
        "partial": f"Content-Type: message/partial; id=x; number=1; total=1\r\n\r\n{_TOP}{whole}",
        "external": f"Content-Type: message/external-body; access-type=x\r\n\r\n{whole}",
        "multipart-base64": (
            "Content-Type: multipart/mixed; boundary=c\r\nContent-Transfer-Encoding: base64\r\n\r\n"
            + b64encode(inner.encode()).decode()
        ),
        "no-header": f"\r\n{_LINES}",
        "header-only": _ZIP.rstrip("\r\n"),
        "no-blank-line": f"{_ZIP}{_LINES}",
        "blank-before-header": f"\r\n{whole}",
        "line-before-header": f"zzz\r\n{whole}",
        "continuation-first": f" zzz\r\n{whole}",
        "blank-line-of-blanks": f"{_ZIP} \r\n\r\n{_LINES}",
        "space-before-colon": whole.replace("Disposition:", "Disposition :"),
        "from-line": f"From x\r\n{whole}",
        "uuencoded": "Content-Type: text/plain\r\n\r\nbegin 644 IHE_XDM.zip\r\n#8F%R\r\n`\r\nend",
    }
    for name, part in parts.items():
        yield f"structure/{name}", _with_fields(mixed, _two(part=part))
    for name, version in {
        "none": "",
        "comment": "MIME-Version: 1.0 (x)\r\n",
        "two": "MIME-Version: 2.0\r\n",
        "empty": "MIME-Version:\r\n",
        "doubled": _VERSION * 2,
    }.items():
        yield f"version/{name}", f"{_TOP}{version}{mixed}\r\n{_two()}".encode()


def messages() -> dict[str, bytes]:
    """Give every message by the name of what is odd in it."""
    return {
        # Two names may be for the same octets: the subject tells them apart.
        name: raw.replace(b"Subject: s", b"Subject: " + name.encode(), 1)
        for family in (_types, _boundaries, _delimiters, _encodings, _names, _structures)
        for name, raw in family()
    }
