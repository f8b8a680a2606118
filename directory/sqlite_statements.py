"""What SQLite needs of a schema beside its tables: triggers, and tables of its own kinds."""

from sqlalchemy import DDL, Table, event


def run_after_creating(table: Table, *statements: str) -> None:
    """Have statements run, in this order, as soon as a table is created in SQLite."""
    for statement in statements:
        event.listen(
            table,
            "after_create",
            DDL(statement.replace("%", "%%")).execute_if(dialect="sqlite"),  # type: ignore[no-untyped-call] # SQLAlchemy leaves it untyped
        )
