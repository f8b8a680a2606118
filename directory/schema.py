"""Tables of the directory database.

Mailboxes are keyed by address because the address is the discriminant of the annuaire and cannot
be changed (facts §1.4). No patient is ever here.
"""

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
)

METADATA = MetaData()

STRUCTURE = Table(
    "structure",
    METADATA,
    Column("id", Text, primary_key=True),
    Column("name", Text, nullable=False),
    Column("organization", Text, nullable=False),
    Column("domain", Text, nullable=False, unique=True),
    Column("patient_domain", Text, nullable=False, unique=True),
    Column("application_address", Text, nullable=False),
    Column("release_delay_days", Integer, nullable=False),
    Column("prevention", Boolean, nullable=False),
)

PRACTITIONER = Table(
    "practitioner",
    METADATA,
    Column("rpps", Text, primary_key=True),
    Column("family", Text, nullable=False),
    Column("given", Text, nullable=False),
    Column("profession", Text, nullable=False),
    Column("specialty", Text, nullable=False),
)

PRACTITIONER_ROLE = Table(
    "practitioner_role",
    METADATA,
    Column("rpps", Text, ForeignKey("practitioner.rpps"), primary_key=True),
    Column("structure_id", Text, ForeignKey("structure.id"), primary_key=True),
)
Index("practitioner_role_structure", PRACTITIONER_ROLE.c.structure_id)

MAILBOX = Table(
    "mailbox",
    METADATA,
    Column("address", Text, primary_key=True),
    Column("type", Text, nullable=False),
    Column("structure_id", Text, ForeignKey("structure.id"), nullable=False),
    Column("display_name", Text, nullable=False),
    Column("rpps", Text),
    Column("unlisted", Boolean, nullable=False),
    Column("closed", Boolean, nullable=False, server_default="0"),
)
Index("mailbox_structure", MAILBOX.c.structure_id)
Index("mailbox_rpps", MAILBOX.c.rpps)

TRUST_COPY = Table(
    "trust_copy",
    METADATA,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("content", LargeBinary, nullable=False),
    Column("adopted_at", BigInteger, nullable=False),
)
"""The last good trust list, one row: it survives a restart on a bad file."""

TRUST_DEPARTED = Table(
    "trust_departed",
    METADATA,
    Column("domain", Text, primary_key=True),
    Column("dn", Text, primary_key=True),
    Column("at", BigInteger, nullable=False),
    Column("vouched", Boolean, nullable=False),
)
"""Who spoke last for the domains that left the trust list lately, with the last good list."""

TRUST_ALARM = Table(
    "trust_alarm",
    METADATA,
    Column("id", Integer, primary_key=True),
    Column("at", BigInteger, nullable=False),
    Column("domain", Text, nullable=False),
    Column("dn", Text, nullable=False),
    Column("seen_at", BigInteger),
    Column("seen_by", Text),
)
"""A name that came to speak for a domain that was known, until a person says to have seen it."""

TRUST_PROPOSAL = Table(
    "trust_proposal",
    METADATA,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("sha256", LargeBinary, nullable=False),
    Column("reason", Text, nullable=False),
    Column("actor", Text, nullable=False),
    Column("at", BigInteger, nullable=False),
)
"""A list that one person wants in use despite what it lost, one row: a second one must agree."""
