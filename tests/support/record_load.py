"""A record of any size, and what its pages cost: statements, CPU time and octets per request."""

import sqlite3
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
from sqlalchemy import event

from record_bridge import repository, schema
from record_bridge.repository import micros
from tests.support.mailsite import AT
from tests.support.webmail import Webmail, token_of, webmail

WORD = "thyroide"
"""In the title of one document in ten thousand, and of the first one."""
SEARCHES = {"search, few": WORD, "search, many": "compte rendu", "search, none": "rien"}
"""What is searched for: in two documents at most, in every one, in none."""
PAGES = ("record", *SEARCHES)


@dataclass(frozen=True, slots=True)
class Cost:
    """What one request cost."""

    statements: int
    cpu_ms: float
    octets: int


def fill(connection: sqlite3.Connection, value: tuple[int, int]) -> None:
    """Put ``count`` documents into a patient's record, a tenth of them not for their eyes."""
    patient_id, count = value
    package = repository.insert(
        connection,
        "archive",
        {"structure_id": "cabinet", "kind": "package", "sha256": b"load", "octets": 1,
         "at": micros(AT)},
    )  # fmt: skip
    for number in range(count):
        row: dict[str, Any] = {
            column.name: "" if column.type.python_type is str else 0
            for column in schema.document.columns
            if not column.nullable and not column.primary_key
        }
        row |= {
            "structure_id": "cabinet",
            "patient_id": patient_id,
            "unique_id": f"1.2.250.1.213.999.5.{number}",
            "sha256": number.to_bytes(32, "big"),
            "octets": 60_000,
            "type_code": ("11502-2", "11490-0", "18748-4")[number % 3],
            "class_code": ("10", "11", "31")[number % 3],
            "title": f"Compte rendu {number}" + (f" {WORD}" if number % 10_000 == 0 else ""),
            "effective_at": micros(AT) - number * 3_600_000_000,
            "status": "current",
            "visibility": "awaiting_release" if number % 10 == 9 else "visible",
            "author": f"Dr Auteur {number % 40}",
            "author_ids": f"8101000000{number % 40:02}",
            "custodian": "Laboratoire",
            "package_id": package,
            "receipt": f"load{number}",
            "received_at": micros(AT),
            "filed_at": micros(AT),
        }
        repository.insert_document(connection, row)


@contextmanager
def counted(site: Webmail) -> Iterator[list[str]]:
    """Collect the statements that the record's readers run."""
    engine = site.queries._database.engine.sync_engine
    seen: list[str] = []

    def note(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        seen.append(statement)

    event.listen(engine, "before_cursor_execute", note)
    try:
        yield seen
    finally:
        event.remove(engine, "before_cursor_execute", note)


@asynccontextmanager
async def loaded(root: Path, count: int) -> AsyncIterator[tuple[Webmail, httpx2.AsyncClient]]:
    """Open a site whose patient has so many documents, and a browser signed in as them."""
    async with webmail(root) as site:
        await site.record.write(fill, (site.patients["patient"], count))
        await site.record.write(_analyse, None)
        async with site.signed_in() as client:
            yield site, client


def _analyse(connection: sqlite3.Connection, _: None) -> None:
    connection.execute("ANALYZE")


async def cost(site: Webmail, client: httpx2.AsyncClient, page: str, times: int = 1) -> Cost:
    """Ask for a page so many times; the statements are one request's, the CPU time the mean's."""
    search = await client.get("/dossier/recherche")
    form = {"csrf": token_of(search.text), "words": SEARCHES.get(page, "")}
    with counted(site) as seen:
        start = time.process_time()
        for _ in range(times):
            answer = (
                await client.get("/dossier")
                if page == "record"
                else await client.post("/dossier/recherche", data=form)
            )
            assert answer.status_code == 200
        spent = time.process_time() - start
    return Cost(len(seen) // times, spent * 1000 / times, len(answer.content))
