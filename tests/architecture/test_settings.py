"""Settings refuse what they cannot honour; nothing is read as its opposite."""

import tomllib
from pathlib import Path
from typing import Any

import pytest
import tomli_w

from mailserver.errors import SettingsError
from mailserver.settings import Environment, Ports, Settings, Site

NOTIFY: dict[str, Any] = {"host": "relay.test", "sender": "prevenir@operateur.example"}
SOUND: dict[str, Any] = {"ports": Ports.from_base(20000).model_dump()}


def read(tmp_path: Path, document: dict[str, Any]) -> Settings:
    site = Site(tmp_path)
    site.settings_file.write_text(tomli_w.dumps(document))
    return site.settings()


def test_ports_alone_make_a_site(tmp_path: Path) -> None:
    settings = read(tmp_path, SOUND)

    assert settings.environment is Environment.TEST
    assert (settings.demo, settings.plaintext_on_loopback) == (False, False)
    assert settings.nil is None


@pytest.mark.parametrize(
    "change",
    [
        pytest.param({"hots": "typo"}, id="unknown key"),
        pytest.param({"limits": {"max_mesage_bytes": 1}}, id="unknown key in a table"),
        pytest.param({"environment": "prod"}, id="unknown environment"),
        pytest.param({"demo": "maybe"}, id="not a boolean"),
        pytest.param({"host": ""}, id="no host"),
        pytest.param({"host": "h" * 254}, id="host too long"),
        pytest.param({"patient_session_minutes": 0}, id="no session"),
        pytest.param({"patient_session_minutes": 241}, id="session too long"),
        pytest.param({"limits": {"max_message_bytes": 64 * 1024 - 1}}, id="message too small"),
        pytest.param({"limits": {"max_message_bytes": 256 * 1024**2 + 1}}, id="message too big"),
        pytest.param({"purge_after_days": 0}, id="purged at once"),
        pytest.param({"purge_after_days": 3651}, id="kept for more than ten years"),
        pytest.param({"limits": {"max_recipients": 0}}, id="no recipient"),
        pytest.param({"trust": {"max_age_hours": 0}}, id="trust list of no age"),
        pytest.param({"trust": {"url": "http://list.test/"}}, id="trust list in clear"),
        pytest.param({"trust": {"url": "list.test"}}, id="trust list of no scheme"),
        pytest.param({"trust": {"fetch_hours": 0}}, id="trust list fetched all the time"),
        pytest.param({"tokens": {"issuer": "x"}}, id="provider without audience"),
        pytest.param({"tokens": {"issuer": "", "audience": "x"}}, id="provider without name"),
        pytest.param({"tokens": {"issuer": "x" * 256, "audience": "x"}}, id="provider too long"),
        pytest.param(
            {"tokens": {"issuer": "x", "audience": "x", "alg": "none"}}, id="algorithm of a token"
        ),
        pytest.param({"notify": {"host": "relay.test"}}, id="notifications from nobody"),
        pytest.param(
            {"notify": NOTIFY | {"sender": "nobody"}}, id="notifications from no address"
        ),
        pytest.param(
            {"notify": NOTIFY | {"sender": "a@b.mssante.fr"}}, id="notifications from inside"
        ),
        pytest.param({"notify": NOTIFY | {"tls": "none"}}, id="relay in clear"),
        pytest.param({"notify": NOTIFY | {"port": 0}}, id="relay on no port"),
        pytest.param({"notify": NOTIFY | {"every_minutes": 0}}, id="told all the time"),
        pytest.param(
            {"notify": NOTIFY | {"every_minutes": 10081}}, id="told after more than a week"
        ),
        pytest.param({"notify": NOTIFY | {"remind_from_hour": 24}}, id="reminders at no hour"),
        pytest.param({"notify": NOTIFY | {"authority": "root.pem"}}, id="authority somewhere"),
        pytest.param({"notify": NOTIFY | {"password": "x"}}, id="password in the settings"),
        pytest.param({"routes": {"a.test": "host"}}, id="route without port"),
        pytest.param({"routes": {"a.test": ":25"}}, id="route without host"),
        pytest.param({"routes": {"a.test": "host:smtp"}}, id="route to a named port"),
        pytest.param({"environment": "production", "demo": True}, id="demo in production"),
        pytest.param(
            {"environment": "production", "plaintext_on_loopback": True},
            id="plaintext in production",
        ),
    ],
)
def test_a_setting_that_cannot_be_honoured_is_refused(
    tmp_path: Path, change: dict[str, Any]
) -> None:
    with pytest.raises(SettingsError):
        read(tmp_path, SOUND | change)


@pytest.mark.parametrize("port", [-1, 65536, 700000, "smtp"])
@pytest.mark.parametrize("listener", sorted(SOUND["ports"]))
def test_a_port_out_of_range_is_refused(tmp_path: Path, listener: str, port: object) -> None:
    with pytest.raises(SettingsError):
        read(tmp_path, {"ports": SOUND["ports"] | {listener: port}})


@pytest.mark.parametrize("listener", sorted(SOUND["ports"]))
def test_a_listener_without_a_port_is_refused(tmp_path: Path, listener: str) -> None:
    ports = {name: port for name, port in SOUND["ports"].items() if name != listener}

    with pytest.raises(SettingsError):
        read(tmp_path, {"ports": ports})


def test_a_relay_of_notifications_is_a_host_and_a_sender(tmp_path: Path) -> None:
    notify = read(tmp_path, SOUND | {"notify": NOTIFY}).notify

    assert notify is not None
    assert (notify.port, notify.tls.value, notify.every_minutes) == (587, "starttls", 60)
    assert notify.remind_from_hour == 8


def test_the_refusal_names_the_key_and_not_its_value(tmp_path: Path) -> None:
    with pytest.raises(SettingsError) as refusal:
        read(tmp_path, SOUND | {"hots": "zzcanary.example.test"})

    assert "hots" in str(refusal.value)
    assert "zzcanary" not in str(refusal.value)


def test_a_folder_that_is_no_site_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="pli init"):
        Site(tmp_path).settings()


def test_a_file_that_is_no_toml_is_refused(tmp_path: Path) -> None:
    Site(tmp_path).settings_file.write_text("host = \n")

    with pytest.raises(SettingsError, match="TOML"):
        Site(tmp_path).settings()


def test_settings_are_written_private_and_read_back_the_same(tmp_path: Path) -> None:
    site = Site(tmp_path)
    settings = Settings(ports=Ports.from_base(0), routes={"a.test": "[::1]:2525"}, nil="1.2.3")

    site.write_settings(settings)

    assert site.settings() == settings
    assert site.settings_file.stat().st_mode & 0o777 == 0o600
    assert "routes" in tomllib.loads(site.settings_file.read_text())
