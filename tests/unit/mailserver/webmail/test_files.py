"""Downloads: a type of ours, a harmless name, nothing the browser shows by itself (W3)."""

import pytest

from mailserver.webmail.files import download


@pytest.mark.parametrize(
    ("content", "name", "media_type", "shown"),
    [
        (b"%PDF-1.7", "a.pdf", "application/pdf", "a.pdf"),
        (b"%PDF-1.7", "a.html", "application/pdf", "a.html.pdf"),
        (b"<html>", "a.pdf", "application/octet-stream", "a.pdf"),
        (b"<html>", "a.html", "application/octet-stream", "a.html.txt"),
        (b"<svg>", "x.SVG", "application/octet-stream", "x.SVG.txt"),
        (b"MZ", "x.exe", "application/octet-stream", "x.exe.txt"),
        (b"x", "../../etc/passwd", "application/octet-stream", "passwd"),
        (b"x", "C:\\a\\b.doc", "application/octet-stream", "b.doc"),
        (b"x", 'a"; x="\r\nSet-Cookie: y', "application/octet-stream", "a x= Set-Cookie y"),
        (b"x", "", "application/octet-stream", "fichier"),
        (b"x", "...", "application/octet-stream", "fichier"),
        (b"PK\x03\x04", "IHE_XDM.zip", "application/zip", "IHE_XDM.zip"),
    ],
)
def test_a_download_has_our_type_and_a_harmless_name(content, name, media_type, shown):
    answer = download(content, name)

    assert answer.headers["content-type"] == media_type
    assert answer.headers["content-disposition"].startswith(f'attachment; filename="{shown}"; ')
    assert "sandbox" in answer.headers["content-security-policy"]


def test_a_name_with_accents_is_given_in_both_forms():
    answer = download(b"x", "résultat.doc")

    assert answer.headers["content-disposition"] == (
        "attachment; filename=\"r_sultat.doc\"; filename*=UTF-8''r%C3%A9sultat.doc"
    )
