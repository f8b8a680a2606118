"""Templates and what every page has in common."""

from collections.abc import Awaitable, Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from jinja2.ext import Extension
from jinja2.lexer import Token, TokenStream
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response

from mailserver.store.model import Flag
from mailserver.webmail import (
    life_text,
    medication_text,
    quarantine_text,
    rights_text,
    text_fr,
    trend_chart,
)
from mailserver.webmail.files import ACCEPTED
from mailserver.webmail.sanitise import named_address, plain
from mailserver.webmail.session import Visitor

HERE: Final = Path(__file__).parent
STATIC: Final = HERE / "static"


class _FrenchSpaces(Extension):
    """Keeps « : ; ? ! » on the line of their word, in what the templates say.

    A template is written with plain spaces, which become no-break spaces when it is compiled;
    people's own words are shown as they wrote them.
    """

    def filter_stream(self, stream: TokenStream) -> Iterator[Token]:
        """Give the template's tokens, its text and its strings spaced as French is."""
        for token in stream:
            if token.type in ("data", "string"):
                yield Token(token.lineno, token.type, text_fr.spaced(token.value))
            else:
                yield token


_ENVIRONMENT: Final = Environment(
    loader=FileSystemLoader(HERE / "templates"),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
    extensions=[_FrenchSpaces],
)
_ENVIRONMENT.filters.update(
    day=text_fr.day,
    moment=text_fr.moment,
    civil_day=text_fr.civil_day,
    size=text_fr.size,
    plain=plain,
    folder_name=text_fr.folder_name,
    mailbox_kind=text_fr.mailbox_kind,
    mark=text_fr.mark,
    care_mark=text_fr.care_mark,
    document_status=text_fr.document_status,
    agenda_kind=text_fr.agenda_kind,
    agenda_status=text_fr.agenda_status,
    access_kind=text_fr.access_kind,
    reading_way=text_fr.reading_way,
    sex=text_fr.sex,
    spaced=text_fr.spaced,
    trait=text_fr.trait,
    age=quarantine_text.age,
    waiting_type=quarantine_text.waiting_type,
    identity_status=text_fr.identity_status,
    short_month=text_fr.short_month,
    result_text=trend_chart.result_text,
    medication_kind=medication_text.kind,
    medication_when=medication_text.when,
    told_text=trend_chart.told_text,
    named_address=named_address,
    subject_title=text_fr.subject_title,
    profile_kind=life_text.profile_kind,
    history_kind=life_text.history_kind,
    right_kind=rights_text.right_kind,
    right_parts=rights_text.right_parts,
    why_not=rights_text.why_not,
)
_ENVIRONMENT.tests.update(
    unread=lambda summary: not summary.row.flags & Flag.SEEN,
    answered=lambda summary: bool(summary.row.flags & Flag.ANSWERED),
)
_ENVIRONMENT.globals.update(
    accepted=ACCEPTED,
    actor=text_fr.actor,
    plural=text_fr.plural,
    reader=text_fr.reader,
    standing=text_fr.standing,
)


def render(
    template: str, visitor: Visitor | None, values: dict[str, Any], *, status: int = 200
) -> HTMLResponse:
    """Render a page.

    Args:
        template: its file in ``templates``.
        visitor: who is signed in, for the navigation and the forms.
        values: what the template shows; autoescaped, but for ``markupsafe.Markup``.
        status: HTTP status.
    """
    context = {
        "visitor": visitor,
        "csrf": visitor.form_token if visitor is not None else "",
        "section": "",
        "typed": {},
        **values,
    }
    return HTMLResponse(_ENVIRONMENT.get_template(template).render(context), status_code=status)


def refusal_of(request: Request) -> str:
    """Give the code of what was refused: by this request itself, or by the one before it."""
    return str(getattr(request.state, "refused", request.query_params.get("refus", "")))


def typed_in(request: Request) -> Mapping[str, str]:
    """Give what was typed into the form that this request refuses; nothing of another."""
    typed: Mapping[str, str] = getattr(request.state, "typed", {})
    return typed


async def again(
    request: Request,
    visitor: Visitor,
    answer: Response,
    typed: Mapping[str, str],
    page: Callable[[Request, Visitor], Awaitable[Response]],
) -> Response:
    """Show a form again that is refused, with what was typed; let any other answer pass.

    Args:
        request: that carried the form.
        visitor: who sent it.
        answer: what came of it: of a refusal, the way back to the page with ``refus``.
        typed: the form's fields.
        page: shows the form; it asks ``refusal_of`` and ``typed_in``.
    """
    _, refused, reason = answer.headers.get("location", "").partition("refus=")
    if not refused:
        return answer
    request.state.refused, request.state.typed = reason, typed
    shown = await page(request, visitor)
    shown.status_code = 422
    return shown


def error_page(request: Request, status: int) -> HTMLResponse:
    """Give the page of an error: the same for all, nothing of the request in it.

    A form about what is not there, mostly one that was sent twice, is told so: what is another's
    and what never was answer the same.
    """
    is_form = request.method == "POST"
    known = status if status in text_fr.ERRORS else 500
    if known == 404 and is_form:
        known = text_fr.GONE
    title, text = text_fr.ERRORS[known]
    return render("error.html", None, {"title": title, "text": text}, status=status)
