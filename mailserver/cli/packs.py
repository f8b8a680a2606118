"""``pli pack``: what a patient is given to read and fill in before an admission."""

import base64
from enum import Enum
from pathlib import Path
from typing import Annotated, Any

import typer

from mailserver.cli.options import OptionalOid, ReasonOption, StructureOption
from mailserver.cli.output import (
    JsonOption,
    SiteArgument,
    a_key,
    done,
    fail,
    opened_for_reading,
    print_json,
    run,
    show_rows,
)
from mailserver.cli.reach import ask
from mailserver.control import Owner
from mailserver.settings import write_private

packs = typer.Typer(
    help="Admission packs: documents and forms with a due date.", no_args_is_help=True
)

MAX_READ = 5 * 1024 * 1024 + 1
PackArgument = Annotated[
    int, typer.Argument(metavar="ID", callback=a_key, help="From 'pli pack list'.")
]


class ItemKind(Enum):
    """What is put into a pack."""

    DOCUMENT = "document"
    FORM = "form"


@packs.command("create")
def create_pack(
    site: SiteArgument,
    ins: Annotated[str, typer.Option("--ins", help="Matricule, 15 characters.")],
    title: Annotated[str, typer.Option("--title", help="What the patient reads.")],
    due: Annotated[str, typer.Option("--due", help="AAAA-MM-JJ, the day to be done by.")],
    oid: OptionalOid = None,
    structure: StructureOption = None,
    reason: ReasonOption = None,
    *,
    as_json: JsonOption = False,
) -> None:
    """Begin a pack for a patient, who does not see it before it is sent."""
    place, given = opened_for_reading(site, reason)
    wanted = {"ins": ins, "oid": oid, "structure": structure, "reason": given}
    made = run(ask(place, Owner.BRIDGE, "pack_create", wanted | {"title": title, "due": due}))
    done(
        made,
        f"Pack {made['id']}: fill it with 'pli pack add', then 'pli pack send'.",
        as_json=as_json,
    )


@packs.command("add")
def add_to_pack(
    site: SiteArgument,
    pack: PackArgument,
    file: Annotated[Path, typer.Argument(help="PDF, JPEG, PNG, TIFF, RTF or text; 5 MB.")],
    kind: Annotated[ItemKind, typer.Option("--kind", help="A form is a PDF to give back.")] = (
        ItemKind.DOCUMENT
    ),
    title: Annotated[
        str | None, typer.Option("--title", help="What the patient reads; else the file's name.")
    ] = None,
    structure: StructureOption = None,
    *,
    as_json: JsonOption = False,
) -> None:
    """Put a document to read, or a form to fill in, into a pack that is not sent yet."""
    place, _ = opened_for_reading(site, "filling a pack")
    try:
        with file.open("rb") as opened_file:
            content = opened_file.read(MAX_READ)
    except OSError:
        fail("This file cannot be read.")
    wanted = {
        "id": pack,
        "structure": structure,
        "kind": kind.value,
        "title": title or file.stem,
        "name": file.name,
        "content": base64.b64encode(content).decode("ascii"),
    }
    made = run(ask(place, Owner.BRIDGE, "pack_add", wanted))
    done(made, f"Added: {kind.value} {made['id']}.", as_json=as_json)


@packs.command("send")
def send_pack(
    site: SiteArgument,
    pack: PackArgument,
    structure: StructureOption = None,
    *,
    as_json: JsonOption = False,
) -> None:
    """Show a pack to its patient; nothing in it changes any more."""
    place, _ = opened_for_reading(site, "sending a pack")
    told = run(ask(place, Owner.BRIDGE, "pack_send", {"id": pack, "structure": structure}))
    done(told, "Sent: the patient sees it now.", as_json=as_json)


@packs.command("list")
def list_packs(
    site: SiteArgument,
    ins: Annotated[
        str | None, typer.Option("--ins", help="Matricule; without, the whole structure.")
    ] = None,
    oid: OptionalOid = None,
    structure: StructureOption = None,
    reason: ReasonOption = None,
    *,
    as_json: JsonOption = False,
) -> None:
    """List the packs that are not closed, and what was done with each."""
    place, given = opened_for_reading(site, reason)
    wanted = {"ins": ins, "oid": oid, "structure": structure, "reason": given}
    rows = run(ask(place, Owner.BRIDGE, "pack_list", wanted))
    columns = ("id", "patient", "title", "due", "state", "done")
    if as_json:
        print_json(rows)
        return
    show_rows(
        [row | {"items": [_item_line(item) for item in row["items"]]} for row in rows],
        {name: name for name in (*columns, "items")},
        as_json=False,
    )


@packs.command("returned")
def fetch_form(
    site: SiteArgument,
    item: Annotated[
        int, typer.Argument(metavar="ITEM", callback=a_key, help="From 'pli pack list'.")
    ],
    output: Annotated[Path, typer.Option(help="The file to make; never over another file.")],
    structure: StructureOption = None,
    reason: ReasonOption = None,
    *,
    as_json: JsonOption = False,
) -> None:
    """Write a form as the patient gave it back to a file."""
    place, given = opened_for_reading(site, reason)
    if output.exists():
        fail("There is a file of this name already.")
    wanted = {"id": item, "structure": structure, "reason": given}
    told = run(ask(place, Owner.BRIDGE, "pack_returned", wanted))
    try:
        write_private(output, base64.b64decode(told.pop("content")))
    except OSError:
        fail("This file cannot be made.")
    done(told, "Written. It holds health data: keep it safe.", as_json=as_json)


@packs.command("remind")
def remind_of_pack(
    site: SiteArgument,
    pack: PackArgument,
    structure: StructureOption = None,
    *,
    as_json: JsonOption = False,
) -> None:
    """Show a patient again, once a day at most, that a pack waits; the page also writes to them.

    A message needs a professional's mailbox to come from, which a command has not.
    """
    place, _ = opened_for_reading(site, "reminding of a pack")
    told = run(ask(place, Owner.BRIDGE, "pack_remind", {"id": pack, "structure": structure}))
    done(told, "The patient's home page says so; no message was sent.", as_json=as_json)


@packs.command("close")
def close_pack(
    site: SiteArgument,
    pack: PackArgument,
    structure: StructureOption = None,
    *,
    as_json: JsonOption = False,
) -> None:
    """Take a pack away; what the patient gave back stays among their files."""
    place, _ = opened_for_reading(site, "closing a pack")
    told = run(ask(place, Owner.BRIDGE, "pack_close", {"id": pack, "structure": structure}))
    done(told, "Closed: the patient does not see it any more.", as_json=as_json)


def _item_line(item: dict[str, Any]) -> str:
    done = [word for word in ("acknowledged", "returned") if item[word]]
    return f"{item['id']} {item['kind']} {item['title']} ({' '.join(done) or 'not read'})"
