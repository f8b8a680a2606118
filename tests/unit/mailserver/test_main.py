"""What the command line says when something ends it that no command expected."""

import pytest

from certs.errors import SandboxCrashError
from mailserver import __main__


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (SandboxCrashError("WorkerStart"), "run this again"),
        (OSError(13, "Permission denied", "/site/pli.toml"), "/site/pli.toml: Permission denied"),
        (RuntimeError("attempt to write a readonly database"), "the owner and the mode"),
        (KeyError("DURAND"), "unexpected KeyError in test_main.py:"),
    ],
)
def test_an_unexpected_end_is_told_in_one_line_without_what_it_quotes(
    monkeypatch, capsys, error, told
):
    def ends():
        raise error

    monkeypatch.setattr(__main__, "app", ends)
    with pytest.raises(SystemExit) as ended:
        __main__.main()

    said = capsys.readouterr().err
    assert ended.value.code == 1
    assert told in said
    assert said.count("\n") == 1
    assert "DURAND" not in said
