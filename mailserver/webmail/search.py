"""Searching the documents of a record from a page: a form's words, a page of what is found."""

from typing import Final

from starlette.requests import Request

from mailserver.webmail.session import field_of, services_of
from record_bridge.queries import Cursor, Sought, Viewer
from record_bridge.search_words import asked

MAX_TYPED: Final = 100
"""Characters of what is searched for, all words together; the form's field takes no more."""
MAX_CURSOR: Final = 30


async def searched(request: Request, whose: tuple[int, Viewer]) -> dict[str, object]:
    """Give what a page of results shows; the words travel in the body, never in an address.

    Args:
        request: with the form.
        whose: patient's key, and who looks.

    Returns:
        ``asked`` as it was typed, ``documents``, ``after`` for the next page, and
        whether this ``is_first``.
    """
    typed = await field_of(request, "words", MAX_TYPED)
    sought = Sought(asked(typed), Cursor.read(await field_of(request, "after", MAX_CURSOR)))
    found = await services_of(request).queries.search(*whose, sought)
    return {
        "asked": typed,
        "documents": found.documents,
        "after": found.after,
        "is_first": sought.start == Cursor(),
    }
