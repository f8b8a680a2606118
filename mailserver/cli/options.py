"""Options that commands about patients share."""

from typing import Annotated

import typer

InsOption = Annotated[str, typer.Option("--ins", help="Matricule, 15 characters.")]
OidOption = Annotated[str, typer.Option("--oid", help="OID of the matricule.")]
OptionalOid = Annotated[
    str | None, typer.Option("--oid", help="OID of the matricule, when two patients have it.")
]
StructureOption = Annotated[
    str | None, typer.Option(help="Needed when the site has several structures.")
]
WhyOption = Annotated[str, typer.Option("--reason", help="Why; it is written in the trail.")]
ReasonOption = Annotated[
    str | None, typer.Option("--reason", help="Why you look; production asks for it (RULES §13).")
]
