"""iCalendar: what is read of strangers' calendars, what is refused, what is written.

Source: RFC 5545 §3.6.1, RFC 5546 §3.2.3, RULES §14.
"""

import dataclasses
import random
from datetime import UTC, date, datetime

import pytest

from record_bridge.calendar_objects import (
    MAX_OBJECTS,
    PLAIN_TITLE,
    Dated,
    Detail,
    feed,
    objects_of,
    state_of,
    tags_of,
)
from record_bridge.errors import MalformedIcalendarError
from record_bridge.formats import ical
from record_bridge.formats.ical import Appointment, read_calendar, write_calendar, write_reply

AT = datetime(2026, 11, 23, 9, 0, tzinfo=UTC)
TIMED = Appointment(
    "a-1", "Consultation, Dr « Test »; suite", date(2026, 12, 1),
    datetime(2026, 12, 1, 9, 0, tzinfo=UTC), datetime(2026, 12, 1, 9, 30, tzinfo=UTC),
    place="Cabinet des Lilas",
)  # fmt: skip
WHOLE = Appointment("a-2", "Bilan", date(2026, 12, 2), last_day=date(2026, 12, 3))


@pytest.mark.parametrize(
    ("appointment", "trigger"), [(TIMED, b"TRIGGER:-P1D"), (WHOLE, b"TRIGGER:-PT15H")]
)
def test_a_reminder_is_the_day_before_and_says_no_more_than_the_appointment(
    appointment: Appointment, trigger: bytes
) -> None:
    written = write_calendar((dataclasses.replace(appointment, reminded=True),), (AT,))

    alarm = written.split(b"BEGIN:VALARM\r\n")[1].split(b"END:VALARM")[0]
    assert alarm.splitlines() == [
        b"ACTION:DISPLAY",
        next(line for line in written.splitlines() if line.startswith(b"SUMMARY")).replace(
            b"SUMMARY", b"DESCRIPTION"
        ),
        trigger,
    ]
    assert only(written) == appointment
    assert b"VALARM" not in write_calendar((appointment,), (AT,))


def event(*lines: str, method: str = "", extra: str = "") -> bytes:
    """A calendar with one event; DTSTART and UID are there unless given."""
    given = [*lines]
    if not any(line.startswith("UID") for line in given):
        given.insert(0, "UID:u-1")
    if not any(line.startswith("DTSTART") for line in given):
        given.append("DTSTART:20261201T090000Z")
    head = ["BEGIN:VCALENDAR", "VERSION:2.0", "PRODID:-//Test//FR"]
    head += [f"METHOD:{method}"] if method else []
    text = [*head, *([extra] if extra else []), "BEGIN:VEVENT", *given, "END:VEVENT"]
    return ("\r\n".join([*text, "END:VCALENDAR"]) + "\r\n").encode()


def only(content: bytes) -> Appointment:
    (appointment,) = read_calendar(content).appointments
    return appointment


@pytest.mark.parametrize("appointment", [TIMED, WHOLE], ids=["timed", "whole days"])
def test_what_is_written_is_read_back_the_same(appointment):
    assert only(write_calendar((appointment,), (AT,))) == appointment


def test_the_same_appointment_gives_the_same_octets():
    assert write_calendar((TIMED, WHOLE), (AT, AT)) == write_calendar((TIMED, WHOLE), (AT, AT))


def test_lines_are_folded_and_text_cannot_open_a_property():
    hostile = "x" * 150 + "\r\nATTENDEE:mailto:a@b.test"
    written = write_calendar((Appointment("u", hostile, date(2026, 1, 1)),), (AT,))

    assert all(len(line) <= 75 for line in written.split(b"\r\n"))
    assert only(written).attendees == ()


@pytest.mark.parametrize(
    ("start", "instant"),
    [
        pytest.param("DTSTART;TZID=Europe/Paris:20260701T100000", (7, 1, 8), id="summer"),
        pytest.param("DTSTART;TZID=Europe/Paris:20261201T100000", (12, 1, 9), id="winter"),
        pytest.param("DTSTART;TZID=Romance Standard Time:20261201T100000", (12, 1, 9), id="Outlook"),
        pytest.param("DTSTART;TZID=/maker.test/x/Europe/Paris:20261201T100000", (12, 1, 9), id="maker"),
        pytest.param("DTSTART;TZID=America/Cayenne:20261201T100000", (12, 1, 13), id="elsewhere"),
        pytest.param("DTSTART:20261201T100000", (12, 1, 9), id="no zone is Paris"),
        pytest.param("DTSTART:20261201T100000Z", (12, 1, 10), id="UTC"),
    ],
)  # fmt: skip
def test_a_time_is_an_instant(start, instant):
    month, day, hour = instant
    assert only(event(start)).start_at == datetime(2026, month, day, hour, tzinfo=UTC)


def test_a_length_gives_the_end_and_an_end_before_the_start_is_none():
    assert only(event("DURATION:PT30M")).end_at == datetime(2026, 12, 1, 9, 30, tzinfo=UTC)
    assert only(event("DTEND:20261201T080000Z")).end_at is None


def test_the_end_of_whole_days_is_the_day_after_the_last():
    read = only(event("DTSTART;VALUE=DATE:20261201", "DTEND;VALUE=DATE:20261204"))
    assert (read.day, read.last_day, read.start_at) == (date(2026, 12, 1), date(2026, 12, 3), None)


def test_a_rule_of_recurrence_is_noticed_and_not_expanded():
    read = only(event("RRULE:FREQ=SECONDLY;COUNT=1000000000"))
    assert read.repeats
    assert only(event("RECURRENCE-ID:20261201T090000Z")).single


def test_a_zone_with_a_rule_is_never_run():
    zone = (
        "BEGIN:VTIMEZONE\r\nTZID:Europe/Paris\r\nBEGIN:STANDARD\r\nDTSTART:16010101T000000\r\n"
        "RRULE:FREQ=SECONDLY\r\nTZOFFSETFROM:+0000\r\nTZOFFSETTO:-1100\r\nEND:STANDARD\r\n"
        "END:VTIMEZONE"
    )
    read = only(event("DTSTART;TZID=Europe/Paris:20261201T100000", extra=zone))
    assert read.start_at == datetime(2026, 12, 1, 9, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        pytest.param(b"", "not a calendar", id="nothing"),
        pytest.param(b"BEGIN:VEVENT\r\nEND:VEVENT\r\n", "not a calendar", id="no calendar"),
        pytest.param(event("SUMMARY:\0"), "not text", id="nul"),
        pytest.param(event("UID:"), "uid", id="no UID"),
        pytest.param(event("DTSTART;TZID=Mars/Phobos:20261201T100000"), "time zone", id="zone"),
        pytest.param(
            event("DTSTART;TZID=../../etc/passwd:20261201T100000"), "time zone", id="path"
        ),
        pytest.param(event("DTSTART:18991231T000000Z"), "date", id="too early"),
        pytest.param(event("DTSTART:22000101T000000Z"), "date", id="too late"),
        pytest.param(event("DTSTART:99999999T999999Z"), "not well formed", id="no date"),
        pytest.param(event("SUMMARY:a")[:-20], "not well formed", id="cut"),
        pytest.param(event("BEGIN;X=1:VTIMEZONE"), "time zone", id="a zone in disguise"),
    ],
)
def test_what_cannot_be_known_is_refused(content, reason):
    with pytest.raises(MalformedIcalendarError) as caught:
        read_calendar(content)
    assert caught.value.reason == reason


def test_the_number_of_octets_is_bounded():
    base = event("X-A:")
    room = ical.MAX_OCTETS - len(base)
    filler = "X-A:" + "a" * room
    assert only(event(filler))
    with pytest.raises(MalformedIcalendarError):
        read_calendar(event(filler + "a"))


@pytest.mark.parametrize(
    ("limit", "line", "fixed"),
    [
        pytest.param(ical.MAX_ATTENDEES, "ATTENDEE:mailto:a{}@b.test", 0, id="attendees"),
        pytest.param(ical.MAX_COMPONENTS, "BEGIN:VALARM\r\nEND:VALARM", 2, id="components"),
        pytest.param(ical.MAX_LINES, "X-{}:1", 8, id="lines"),
    ],
)
def test_what_is_counted_is_bounded(limit, line, fixed):
    def content(count: int) -> bytes:
        return event(*(line.format(number) for number in range(count - fixed)))

    assert only(content(limit))
    for count in (limit + 1, limit * 3):
        with pytest.raises(MalformedIcalendarError):
            read_calendar(content(count))


def test_a_uid_is_bounded():
    assert only(event("UID:" + "u" * ical.MAX_UID))
    with pytest.raises(MalformedIcalendarError):
        read_calendar(event("UID:" + "u" * (ical.MAX_UID + 1)))


def test_changed_octets_give_a_calendar_or_the_one_error():
    chance = random.Random(5545)
    whole = write_calendar((TIMED, WHOLE), (AT, AT))
    for _ in range(300):
        changed = bytearray(whole)
        for _ in range(chance.randint(1, 6)):
            changed[chance.randrange(len(changed))] = chance.choice(b'\r\n:;,"=\\ABZ09 \xff')
        try:
            read_calendar(bytes(changed))
        except MalformedIcalendarError:
            continue


def test_an_answer_names_one_attendee_and_the_organizer():
    invited = only(
        event("ORGANIZER:mailto:Dr@cabinet.test", "ATTENDEE:mailto:x@y.test", "SEQUENCE:3",
              method="REQUEST")
    )  # fmt: skip
    reply = read_calendar(write_reply(invited, "moi@patient.test", "DECLINED", AT))

    assert reply.method == "REPLY"
    assert reply.appointments[0].attendees == ("moi@patient.test",)
    assert reply.appointments[0].organizer == "dr@cabinet.test"
    assert reply.appointments[0].sequence == 3
    assert b"PARTSTAT=DECLINED" in write_reply(invited, "moi@patient.test", "DECLINED", AT)


# --- what leaves ------------------------------------------------------------------------------


def test_a_calendar_says_only_when_unless_its_patient_chose_more():
    dated = (Dated(TIMED, AT), Dated(WHOLE, AT))
    plain = feed(dated, Detail.PLAIN).decode()

    assert plain.count(f"SUMMARY:{PLAIN_TITLE}") == 2
    assert "Consultation" not in plain
    assert "Lilas" not in plain
    assert "Consultation" in feed(dated, Detail.TITLES).decode()


def test_a_tag_changes_with_its_object_and_the_state_with_any_of_them():
    first = objects_of([Dated(TIMED, AT), Dated(WHOLE, AT)], Detail.TITLES)
    same = objects_of([Dated(WHOLE, AT), Dated(TIMED, AT)], Detail.TITLES)
    less = objects_of([Dated(WHOLE, AT)], Detail.TITLES)
    told = objects_of([Dated(TIMED, AT), Dated(WHOLE, AT)], Detail.PLAIN)

    assert state_of(tags_of(first)) == state_of(tags_of(same))
    assert len({state_of(tags_of(each)) for each in (first, less, told)}) == 3


def test_an_agenda_gives_its_latest_appointments_when_there_are_too_many():
    one = Dated(WHOLE, AT)
    many = [
        Dated(Appointment(f"u{n}", "x", date.fromordinal(738000 + n)), AT)
        for n in range(MAX_OBJECTS + 1)
    ]
    assert len(objects_of([one], Detail.PLAIN)) == 1
    kept = objects_of(many, Detail.PLAIN)
    assert len(kept) == MAX_OBJECTS
    assert "u0.ics" not in {each.name for each in kept}
