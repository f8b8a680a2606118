"""Tables of the record database: patients, documents, agenda, quarantine, and the bridge's work.

Invariants the tables themselves hold: an identity (matricule and OID) is one patient of one
structure; a document's unique id is one row of one structure; an occurrence (``receipt`` and
``position``: the n-th document of one delivered message) is one row at most of each of
``document``, ``duplicate`` and ``quarantine``. That it is in exactly one of them is proven from
the outside (``record_bridge.accounting``). Every row of a person's data names its structure
(RULES §1). Times, named ``*_at``, are integer microseconds UTC.

There is no table of occurrences: what was received is recomputed from the mail, never from here.
"""

from sqlalchemy import (
    BLOB,
    Column,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    Table,
    Text,
    UniqueConstraint,
    text,
)

from directory.sqlite_statements import run_after_creating
from directory.trail import trail_tables
from record_bridge import document_index

METADATA = MetaData()

CHUNK_OCTETS = 256 * 1024
"""Largest row of content (DESIGN D5b: one 25 MB row took 567 ms to slice, chunks 6 ms)."""

patient = Table(
    "patient",
    METADATA,
    Column("id", Integer, primary_key=True),
    Column("structure_id", Text, nullable=False),
    Column("matricule", Text, nullable=False),
    Column("oid", Text, nullable=False),
    Column("family", Text, nullable=False, comment="birth name, as registered"),
    Column("given", Text, nullable=False, comment="first birth name"),
    Column("birth_date", Text, nullable=False, comment="AAAAMMJJ"),
    Column("sex", Text, nullable=False),
    Column("birth_place", Text, comment="INSEE code of five characters, when known"),
    Column("status", Text, nullable=False, comment="identity status: qualifiee, validee..."),
    Column("doubtful", Integer, nullable=False, server_default="0"),
    Column("fictitious", Integer, nullable=False, server_default="0"),
    Column("address", Text, nullable=False, comment="the patient's own mailbox, lower case"),
    Column("created_at", Integer, nullable=False),
    Column("changed_at", Integer, nullable=False),
    Column("closed_at", Integer, comment="kept since, and opened by its patient alone"),
    Column("died_on", Text, comment="AAAA-MM-JJ, said when the record was closed"),
    Column("merged_into", ForeignKey("patient.id"), comment="whose record holds its documents"),
    UniqueConstraint("structure_id", "matricule", "oid", name="patient_identity"),
    UniqueConstraint("address", name="patient_address"),
    Index("patient_merged", "merged_into", sqlite_where=text("merged_into IS NOT NULL")),
)

patient_merge = Table(
    "patient_merge",
    METADATA,
    Column("id", Integer, primary_key=True),
    Column("structure_id", Text, nullable=False),
    Column("kept_id", ForeignKey("patient.id"), nullable=False),
    Column("merged_id", ForeignKey("patient.id"), nullable=False),
    Column("merged_by", Text, nullable=False),
    Column("merged_at", Integer, nullable=False),
    Column("reason", Text, nullable=False),
    Column("split_by", Text),
    Column("split_at", Integer),
    Column("split_reason", Text),
    Index("patient_merge_now", "merged_id", unique=True, sqlite_where=text("split_at IS NULL")),
)

patient_merge_row = Table(
    "patient_merge_row",
    METADATA,
    Column("merge_id", ForeignKey("patient_merge.id"), primary_key=True),
    Column("table_name", Text, primary_key=True),
    Column("row_id", Integer, primary_key=True),
    comment="what a merge moved, so that a split moves exactly this back",
)

inbox_item = Table(
    "inbox_item",
    METADATA,
    Column("id", Integer, primary_key=True),
    Column("structure_id", Text, nullable=False),
    Column("uidvalidity", Integer, nullable=False),
    Column("uid", Integer, nullable=False),
    Column("receipt", Text, comment="the message's receipt id, or sha256:... without one"),
    Column("state", Text, nullable=False, comment="claimed, done"),
    Column("attempts", Integer, nullable=False),
    Column("lease_until_at", Integer, nullable=False),
    Column("outcome", Text, comment="filed, quarantined, duplicate, other, repeated, mixed"),
    Column("code", Text, comment="900 to 906 when quarantined"),
    Column("origin", Text, comment="domain that sent it, for the limit of RULES §9"),
    Column("keywords", Text, comment="what the entry must bear, space separated"),
    Column("told", Text, comment="the keywords that the entry was told last"),
    Column("marked_at", Integer, comment="when the mailbox's entry was told"),
    Column("done_at", Integer, comment="when it was judged first"),
    Column("purged_at", Integer, comment="when the entry was taken out of the mailbox"),
    UniqueConstraint("structure_id", "uidvalidity", "uid", name="inbox_item_uid"),
    Index("inbox_item_receipt", "structure_id", "receipt"),
    Index(
        "inbox_item_unmarked",
        "structure_id",
        sqlite_where=text("state = 'done' AND marked_at IS NULL"),
    ),
    Index(
        "inbox_item_unpurged",
        "structure_id",
        "uidvalidity",
        "uid",
        sqlite_where=text("state = 'done' AND purged_at IS NULL"),
    ),
    Index("inbox_item_claimed", "structure_id", sqlite_where=text("state = 'claimed'")),
    Index("inbox_item_origin", "origin", "done_at", sqlite_where=text("code IN ('902', '904')")),
)

cursor = Table(
    "cursor",
    METADATA,
    Column("structure_id", Text, primary_key=True),
    Column("uidvalidity", Integer, nullable=False),
    Column("uid", Integer, nullable=False, comment="rows exist for every UID up to this one"),
)

archive = Table(
    "archive",
    METADATA,
    Column("id", Integer, primary_key=True),
    Column("structure_id", Text, nullable=False),
    Column("kind", Text, nullable=False, comment="package (kept) or message (until decided)"),
    Column("sha256", BLOB, nullable=False),
    Column("octets", Integer, nullable=False),
    Column("at", Integer, nullable=False),
    UniqueConstraint("structure_id", "kind", "sha256", name="archive_content"),
)

archive_chunk = Table(
    "archive_chunk",
    METADATA,
    Column("archive_id", ForeignKey("archive.id", ondelete="CASCADE"), primary_key=True),
    Column("position", Integer, primary_key=True),
    Column("data", BLOB, nullable=False),
)

document = Table(
    "document",
    METADATA,
    Column("id", Integer, primary_key=True),
    Column("structure_id", Text, nullable=False),
    Column("patient_id", ForeignKey("patient.id"), comment="NULL: in no record, in quarantine"),
    Column("identity_id", ForeignKey("patient.id"), comment="the identity it was filed under"),
    Column("unique_id", Text, nullable=False),
    Column("sha256", BLOB, nullable=False),
    Column("octets", Integer, nullable=False),
    Column("set_id", Text, nullable=False, server_default=""),
    Column("version_number", Integer),
    Column("parent_unique_id", Text, comment="the version this one replaces"),
    Column("superseded_by", ForeignKey("document.id")),
    Column("type_code", Text, nullable=False),
    Column("class_code", Text, nullable=False),
    Column("title", Text, nullable=False),
    Column("effective_at", Integer),
    Column("status", Text, nullable=False, comment="current, superseded, withdrawn"),
    Column("visibility", Text, nullable=False, comment="space-separated codes of RULES §7"),
    Column("masked_here", Text, nullable=False, server_default="", comment="masks set by persons"),
    Column("released_at", Integer, comment="when a person released it"),
    Column("release_at", Integer, comment="when the delay releases it; NULL: never by itself"),
    Column("marks", Text, nullable=False, comment="space-separated marks"),
    Column("author", Text, nullable=False, server_default="", comment="shown: name, profession"),
    Column("author_ids", Text, nullable=False, server_default="", comment="PS, space separated"),
    Column("organization_ids", Text, nullable=False, comment="custodian's and authors', national"),
    Column("may_replace", Integer, nullable=False, comment="0: forwarded, no authority"),
    Column("custodian", Text, nullable=False, server_default=""),
    Column("recipient_ids", Text, nullable=False, server_default="", comment="PS addressed"),
    Column("attending_ids", Text, nullable=False, server_default="", comment="médecin traitant"),
    Column("media_type", Text, nullable=False, server_default="", comment="level 1 body"),
    Column("sender", Text, nullable=False, comment="address in From"),
    Column("origin", Text, nullable=False, comment="authenticated sending domain"),
    Column(
        "signer", Text, nullable=False, server_default="", comment="domain of a good signature"
    ),
    Column("forwarded_by", Text, nullable=False, server_default=""),
    Column("package_id", ForeignKey("archive.id"), nullable=False),
    Column("receipt", Text, nullable=False),
    Column("position", Integer, nullable=False),
    Column("received_at", Integer, nullable=False),
    Column("filed_at", Integer, nullable=False),
    Column("filed_by", Text, comment="who filed it by hand; NULL: by the rules, from a package"),
    Column("imported_at", Integer, comment="when it came in an archive of another site"),
    Column("withdrawn_at", Integer),
    Column(
        "moved",
        Integer,
        nullable=False,
        server_default="0",
        comment="1: it left its record or came back since the hand-over looked",
    ),
    Column("words", Text, nullable=False, server_default="", comment="search_words.kept"),
    Column("refs", Text, nullable=False, server_default="", comment="roles:RPPS, space separated"),
    Column("number", Integer, comment="repository.number_of its unique id"),
    Column(
        "lists_read",
        Integer,
        nullable=False,
        server_default="0",
        comment="1: its lines are in lab_result and medication",
    ),
    UniqueConstraint("structure_id", "unique_id", name="document_unique_id"),
    UniqueConstraint("structure_id", "receipt", "position", name="document_occurrence"),
    Index("document_patient", "patient_id", "number"),
    Index("document_last", "patient_id", "received_at"),
    Index("document_moved", "structure_id", sqlite_where=text("moved = 1")),
    Index("document_identity", "identity_id"),
    Index("document_lists", "id", sqlite_where=text("lists_read = 0")),
    Index("document_release", "release_at", sqlite_where=text("release_at IS NOT NULL")),
    Index(
        "document_parent",
        "structure_id",
        "parent_unique_id",
        sqlite_where=text("parent_unique_id IS NOT NULL"),
    ),
)

document_index.index_tables(METADATA, document)
AFTER_UPGRADE = document_index.AFTER_UPGRADE

record_change = Table(
    "record_change",
    METADATA,
    Column("record_id", Integer, primary_key=True, comment="a patient's key"),
    Column("changes", Integer, nullable=False, comment="only grows"),
)
"""How often documents of a record came, or changed in what its patient's view depends on. Triggers
keep it, so that no statement can forget it; while it is the same, nothing new is shown."""

_CHANGE = """INSERT INTO record_change (record_id, changes) VALUES (NEW.patient_id, 1)
    ON CONFLICT (record_id) DO UPDATE SET changes = changes + 1;"""
for _name, _when in (
    ("document_came", "INSERT"),
    ("document_changed", "UPDATE OF patient_id, status, visibility"),
):
    run_after_creating(
        record_change,
        f"CREATE TRIGGER {_name} AFTER {_when} ON document WHEN NEW.patient_id IS NOT NULL\n"
        f"BEGIN {_CHANGE} END",
    )
record_change.add_is_dependent_on(document)

document_chunk = Table(
    "document_chunk",
    METADATA,
    Column("document_id", ForeignKey("document.id", ondelete="CASCADE"), primary_key=True),
    Column("position", Integer, primary_key=True),
    Column("data", BLOB, nullable=False),
)

agenda_entry = Table(
    "agenda_entry",
    METADATA,
    Column("id", Integer, primary_key=True),
    Column("structure_id", Text, nullable=False),
    Column("patient_id", ForeignKey("patient.id"), nullable=False),
    Column("document_id", ForeignKey("document.id"), nullable=False),
    Column("ordinal", Integer, nullable=False),
    Column("kind", Text, nullable=False),
    Column("status", Text, nullable=False),
    Column("title", Text, nullable=False),
    Column("day", Text, comment="AAAA-MM-JJ; NULL: to be scheduled, or date unknown"),
    Column("start_at", Integer),
    Column("end_at", Integer),
    Column("reminder", Text, nullable=False, server_default=""),
    Column("place", Text),
    Column("code", Text, nullable=False, server_default=""),
    Column("code_system", Text, nullable=False, server_default=""),
    Column("atc", Text, nullable=False, server_default=""),
    Column("source_superseded", Integer, nullable=False, server_default="0"),
    Column("decided_at", Integer),
    Column("decided_by", Text),
    Column("created_at", Integer, nullable=False),
    Index("agenda_entry_patient", "patient_id", "day"),
    Index("agenda_entry_document", "document_id"),
)

lab_result = Table(
    "lab_result",
    METADATA,
    Column("document_id", ForeignKey("document.id", ondelete="CASCADE"), primary_key=True),
    Column("ordinal", Integer, primary_key=True),
    Column("loinc", Text, nullable=False),
    Column("label", Text, nullable=False),
    Column("value", Text, comment="a decimal number; NULL: no single number"),
    Column("sign", Text, nullable=False, comment="of a bound, else ''"),
    Column("unit", Text, nullable=False, comment="UCUM, as written"),
    Column("day", Text, comment="AAAA-MM-JJ; NULL: unknown"),
    Column("at", Integer, comment="when an hour is known"),
    comment="read from a document's octets: whose it is and whether it counts is the document's",
)

medication = Table(
    "medication",
    METADATA,
    Column("document_id", ForeignKey("document.id", ondelete="CASCADE"), primary_key=True),
    Column("ordinal", Integer, primary_key=True),
    Column("kind", Text, nullable=False, comment="treatment, prescribed, planned, dispensed"),
    Column("label", Text, nullable=False),
    Column("code", Text, nullable=False),
    Column("code_system", Text, nullable=False),
    Column("low", Text, comment="a start as written (DTM)"),
    Column("high", Text, comment="an end as written (DTM)"),
    Column("as_needed", Integer, nullable=False),
    Column("renewals", Integer, nullable=False),
    comment="read from a document's octets: whose it is and whether it counts is the document's",
)

prevention_declared = Table(
    "prevention_declared",
    METADATA,
    Column("id", Integer, primary_key=True),
    Column("patient_id", ForeignKey("patient.id"), nullable=False),
    Column("rule_id", Text, nullable=False, comment="of the national calendar"),
    Column("ordinal", Integer, nullable=False, comment="dose or turn, from 1; year of a campaign"),
    Column("day", Text, nullable=False, comment="AAAA-MM-JJ"),
    Column("declared_by", Text, nullable=False),
    Column("declared_at", Integer, nullable=False),
    UniqueConstraint("patient_id", "rule_id", "ordinal"),
    sqlite_autoincrement=True,  # patient_merge_row names rows: none has the key of another
)

duplicate = Table(
    "duplicate",
    METADATA,
    Column("id", Integer, primary_key=True),
    Column("structure_id", Text, nullable=False),
    Column("document_id", ForeignKey("document.id"), nullable=False),
    Column("unique_id", Text, nullable=False),
    Column("receipt", Text, nullable=False),
    Column("position", Integer, nullable=False),
    Column("at", Integer, nullable=False),
    UniqueConstraint("structure_id", "receipt", "position", name="duplicate_occurrence"),
)

quarantine = Table(
    "quarantine",
    METADATA,
    Column("id", Integer, primary_key=True),
    Column("structure_id", Text, nullable=False),
    Column("item_id", ForeignKey("inbox_item.id"), nullable=False),
    Column("archive_id", ForeignKey("archive.id"), comment="the whole message, to open it again"),
    Column("receipt", Text, nullable=False),
    Column("position", Integer, nullable=False),
    Column("unique_id", Text, nullable=False, server_default=""),
    Column("parent_unique_id", Text),
    Column("code", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("matricule", Text, nullable=False, server_default=""),
    Column("oid", Text, nullable=False, server_default=""),
    Column("whole", Integer, nullable=False, comment="1: stands for a message never opened"),
    Column("state", Text, nullable=False, comment="open, filed, duplicate, closed"),
    Column("received_at", Integer, nullable=False),
    Column("created_at", Integer, nullable=False),
    Column("closed_at", Integer),
    Column("closed_by", Text),
    Column("type_code", Text, nullable=False, server_default=""),
    Column("addressees", Text, nullable=False, server_default="", comment="space separated"),
    Column("sender", Text, nullable=False, server_default="", comment="address in From"),
    Column("decision", Text, comment="a person's: filed, sent_back, set_aside"),
    Column("decision_reason", Text),
    UniqueConstraint("structure_id", "receipt", "position", name="quarantine_occurrence"),
    Index("quarantine_identity", "structure_id", "matricule", sqlite_where=text("state = 'open'")),
    Index(
        "quarantine_unique_id", "structure_id", "unique_id", sqlite_where=text("state = 'open'")
    ),
    Index(
        "quarantine_parent",
        "structure_id",
        "parent_unique_id",
        sqlite_where=text("state = 'open' AND parent_unique_id IS NOT NULL"),
    ),
    Index("quarantine_item", "item_id"),
    Index("quarantine_waiting", "received_at", sqlite_where=text("state = 'open'")),
)

reply_outbox = Table(
    "reply_outbox",
    METADATA,
    Column("id", Integer, primary_key=True),
    Column("structure_id", Text, nullable=False),
    Column("item_id", ForeignKey("inbox_item.id"), nullable=False),
    Column("final_recipient", Text, nullable=False),
    Column("send_to", Text, nullable=False),
    Column("message_id", Text, nullable=False, comment="derived from the item"),
    Column("code", Text, nullable=False, server_default="", comment="'' when it was filed"),
    Column("original_message_id", Text, nullable=False, server_default=""),
    Column("at", Integer, nullable=False),
    Column("attempts", Integer, nullable=False, server_default="0"),
    Column("next_at", Integer, nullable=False),
    Column("state", Text, nullable=False, comment="waiting, sent, refused, held"),
    UniqueConstraint("item_id", "final_recipient", name="reply_outbox_once"),
    Index("reply_outbox_due", "structure_id", "next_at", sqlite_where=text("state = 'waiting'")),
    Index("reply_outbox_held", "structure_id", sqlite_where=text("state = 'held'")),
)

# --- what is handed over to a structure's own software ----------------------------------------

handover_choice = Table(
    "handover_choice",
    METADATA,
    Column("structure_id", Text, primary_key=True),
    Column("begins_after", Integer, nullable=False, comment="documents up to this id stay here"),
    Column("taken_in", Integer, nullable=False, comment="documents up to this id were looked at"),
    Column("answers", Integer, nullable=False, comment="1: the software's answer is the MDN's"),
)

handover = Table(
    "handover",
    METADATA,
    Column("id", Integer, primary_key=True),
    Column("structure_id", Text, nullable=False),
    Column("document_id", ForeignKey("document.id"), nullable=False),
    Column("ordinal", Integer, nullable=False, comment="from 0: what was told of this document"),
    Column("identity_id", ForeignKey("patient.id"), nullable=False, comment="whose it says it is"),
    Column("action", Text, nullable=False, comment="new, replace, withdraw"),
    Column("control_id", Text, nullable=False, comment="MSH-10, the same at every try"),
    Column("state", Text, nullable=False, comment="waiting, accepted, refused, dropped"),
    Column("code", Text, nullable=False, server_default="", comment="900 to 906 when refused"),
    Column("attempts", Integer, nullable=False, server_default="0"),
    Column("created_at", Integer, nullable=False),
    Column("next_at", Integer, nullable=False),
    Column("answered_at", Integer),
    Column("begun_at", Integer, comment="when it was given out to be told first"),
    UniqueConstraint("document_id", "ordinal", name="handover_once"),
    Index("handover_due", "structure_id", "next_at", sqlite_where=text("state = 'waiting'")),
)

notice = Table(
    "notice",
    METADATA,
    Column("id", Integer, primary_key=True),
    Column("structure_id", Text, nullable=False),
    Column("patient_id", ForeignKey("patient.id"), nullable=False, comment="record it was in"),
    Column("document_id", ForeignKey("document.id"), nullable=False),
    Column("addressee", Text, nullable=False, comment="who opened it, as the trail names them"),
    Column("kind", Text, nullable=False, comment="withdrawn, refiled"),
    Column("at", Integer, nullable=False),
    Column("seen_at", Integer),
    Index("notice_addressee", "addressee", sqlite_where=text("seen_at IS NULL")),
    Index("notice_document", "document_id"),
)

document_reader = Table(
    "document_reader",
    METADATA,
    Column("document_id", ForeignKey("document.id", ondelete="CASCADE"), primary_key=True),
    Column("actor", Text, primary_key=True, comment="as the trail names them"),
    sqlite_with_rowid=False,
    comment="who was shown it among many: one event of the trail, which names none of them",
)

# --- what patients keep themselves: never an occurrence, never counted as filed ---------------

own_entry = Table(
    "own_entry",
    METADATA,
    Column("id", Integer, primary_key=True),
    Column("patient_id", ForeignKey("patient.id"), nullable=False),
    Column("name", Text, nullable=False, comment="the last step of its CalDAV address"),
    Column("uid", Text, nullable=False),
    Column("ics", BLOB, nullable=False, comment="the calendar object, as it was put"),
    Column("title", Text, nullable=False),
    Column("place", Text, nullable=False, server_default=""),
    Column("day", Text, nullable=False, comment="AAAA-MM-JJ"),
    Column("last_day", Text, comment="of whole days"),
    Column("start_at", Integer),
    Column("end_at", Integer),
    Column("organizer", Text, nullable=False, server_default="", comment="'' for one's own"),
    Column("cancelled", Integer, nullable=False, server_default="0"),
    Column("created_at", Integer, nullable=False),
    Column("changed_at", Integer, nullable=False),
    UniqueConstraint("patient_id", "name", name="own_entry_name"),
    UniqueConstraint("patient_id", "uid", name="own_entry_uid"),
    sqlite_autoincrement=True,  # patient_merge_row names rows: none has the key of another
)

invitation = Table(
    "invitation",
    METADATA,
    Column("id", Integer, primary_key=True),
    Column("patient_id", ForeignKey("patient.id"), nullable=False),
    Column("organizer", Text, nullable=False),
    Column("uid", Text, nullable=False),
    Column("sequence", Integer, nullable=False),
    Column("answer", Text, nullable=False, comment="accepted, declined, cancelled"),
    Column("answered_at", Integer, nullable=False),
    UniqueConstraint("patient_id", "organizer", "uid", name="invitation_once"),
)

calendar_key = Table(
    "calendar_key",
    METADATA,
    Column("id", Integer, primary_key=True),
    Column("patient_id", ForeignKey("patient.id"), nullable=False),
    Column("kind", Text, nullable=False, comment="feed, device"),
    Column("login", Text, nullable=False, comment="random; in the addresses of CalDAV"),
    Column("digest", BLOB, nullable=False, comment="SHA-256 of at least 120 random bits"),
    Column("name", Text, nullable=False, server_default=""),
    Column("detail", Text, nullable=False, comment="plain, titles (RULES 14)"),
    Column("holder", Text, nullable=False, server_default="", comment="a representative's key"),
    Column("created_at", Integer, nullable=False),
    Column("expires_at", Integer, nullable=False),
    Column("stopped_at", Integer),
    UniqueConstraint("digest", name="calendar_key_digest"),
    UniqueConstraint("login", name="calendar_key_login"),
    Index("calendar_key_patient", "patient_id"),
)

api_token = Table(
    "api_token",
    METADATA,
    Column("id", Integer, primary_key=True),
    Column("structure_id", Text, nullable=False),
    Column("patient_id", ForeignKey("patient.id"), comment="NULL: a structure's software"),
    Column("rpps", Text, nullable=False, server_default="", comment="for whom it works"),
    Column("digest", BLOB, nullable=False, comment="SHA-256 of 256 random bits"),
    Column("name", Text, nullable=False),
    Column("scopes", Text, nullable=False, comment="types of resources, space separated"),
    Column("created_at", Integer, nullable=False),
    Column("expires_at", Integer, nullable=False),
    Column("stopped_at", Integer),
    UniqueConstraint("digest", name="api_token_digest"),
    Index("api_token_holder", "structure_id", "patient_id"),
)

deposit = Table(
    "deposit",
    METADATA,
    Column("id", Integer, primary_key=True),
    Column("patient_id", ForeignKey("patient.id"), nullable=False),
    Column("title", Text, nullable=False),
    Column("media_type", Text, nullable=False, comment="as its octets say"),
    Column("sha256", BLOB, nullable=False),
    Column("octets", Integer, nullable=False),
    Column("visibility", Text, nullable=False, comment="space-separated codes of RULES 7"),
    Column("deposited_by", Text, nullable=False),
    Column("deposited_at", Integer, nullable=False),
    Column("withdrawn_at", Integer),
    Index("deposit_patient", "patient_id"),
)

deposit_chunk = Table(
    "deposit_chunk",
    METADATA,
    Column("deposit_id", ForeignKey("deposit.id", ondelete="CASCADE"), primary_key=True),
    Column("position", Integer, primary_key=True),
    Column("data", BLOB, nullable=False),
)

admission_pack = Table(
    "admission_pack",
    METADATA,
    Column("id", Integer, primary_key=True),
    Column("patient_id", ForeignKey("patient.id"), nullable=False),
    Column("title", Text, nullable=False),
    Column("due", Text, nullable=False, comment="AAAA-MM-JJ"),
    Column("created_by", Text, nullable=False),
    Column("created_at", Integer, nullable=False),
    Column("sent_at", Integer, comment="NULL: in the making, its patient does not see it"),
    Column("reminded_at", Integer, comment="when its patient was reminded of it last"),
    Column("acknowledged_by", Text),
    Column("acknowledged_at", Integer),
    Column("closed_at", Integer, comment="its patient does not see it any more"),
    Index("admission_pack_patient", "patient_id"),
)

pack_item = Table(
    "pack_item",
    METADATA,
    Column("id", Integer, primary_key=True),
    Column("pack_id", ForeignKey("admission_pack.id"), nullable=False),
    Column("patient_id", ForeignKey("patient.id"), nullable=False),
    Column("kind", Text, nullable=False, comment="document, form"),
    Column("title", Text, nullable=False),
    Column("media_type", Text, nullable=False, comment="as its octets say"),
    Column("sha256", BLOB, nullable=False),
    Column("octets", Integer, nullable=False),
    Column("acknowledged_by", Text),
    Column("acknowledged_at", Integer),
    Column("deposit_id", ForeignKey("deposit.id"), comment="the form as it was given back"),
    Index("pack_item_pack", "pack_id"),
    Index("pack_item_patient", "patient_id"),
)

pack_item_chunk = Table(
    "pack_item_chunk",
    METADATA,
    Column("pack_item_id", ForeignKey("pack_item.id", ondelete="CASCADE"), primary_key=True),
    Column("position", Integer, primary_key=True),
    Column("data", BLOB, nullable=False),
)

profile_item = Table(
    "profile_item",
    METADATA,
    Column("id", Integer, primary_key=True),
    Column("patient_id", ForeignKey("patient.id"), nullable=False),
    Column("kind", Text, nullable=False, comment="allergy, history, treatment, measurement"),
    Column("text", Text, nullable=False),
    Column("value", Text, nullable=False, server_default="", comment="of a measurement"),
    Column("unit", Text, nullable=False, server_default=""),
    Column("day", Text, comment="AAAA-MM-JJ"),
    Column("noted_by", Text, nullable=False),
    Column("noted_at", Integer, nullable=False),
    Column("removed_at", Integer),
    Index("profile_item_patient", "patient_id"),
)

directive = Table(
    "directive",
    METADATA,
    Column("id", Integer, primary_key=True),
    Column("patient_id", ForeignKey("patient.id"), nullable=False),
    Column("kind", Text, nullable=False, comment="advance_directives, trusted_person"),
    Column("version", Integer, nullable=False, comment="from 1, in its kind"),
    Column("day", Text, nullable=False, comment="AAAA-MM-JJ written on it"),
    Column("text", Text, nullable=False),
    Column("person", Text, nullable=False, server_default=""),
    Column("contact", Text, nullable=False, server_default=""),
    Column("noted_by", Text, nullable=False),
    Column("noted_at", Integer, nullable=False),
    Column("withdrawn_at", Integer),
    UniqueConstraint("patient_id", "kind", "version", name="directive_version"),
)

opposition = Table(
    "opposition",
    METADATA,
    Column("id", Integer, primary_key=True),
    Column("patient_id", ForeignKey("patient.id"), nullable=False),
    Column("scope", Text, nullable=False, comment="opening, deposit"),
    Column("said_by", Text, nullable=False),
    Column("since_at", Integer, nullable=False),
    Column("until_at", Integer, comment="when it was taken back"),
    Index(
        "opposition_now",
        "patient_id",
        "scope",
        unique=True,
        sqlite_where=text("until_at IS NULL"),
    ),
)

# --- until when it is kept -------------------------------------------------------------------

retention_policy = Table(
    "retention_policy",
    METADATA,
    Column("id", Integer, primary_key=True),
    Column("structure_id", Text, nullable=False),
    Column("text", Text, nullable=False, comment="TOML; the last one of a structure counts"),
    Column("set_by", Text, nullable=False),
    Column("set_at", Integer, nullable=False),
    Index("retention_policy_structure", "structure_id"),
)

retention_hold = Table(
    "retention_hold",
    METADATA,
    Column("id", Integer, primary_key=True),
    Column("patient_id", ForeignKey("patient.id"), nullable=False),
    Column("said_by", Text, nullable=False),
    Column("since_at", Integer, nullable=False),
    Column("until_at", Integer, comment="when the suspension of its deadline ended"),
    Index("retention_hold_now", "patient_id", unique=True, sqlite_where=text("until_at IS NULL")),
)

# --- who may see it ---------------------------------------------------------------------------

access_right = Table(
    "access_right",
    METADATA,
    Column("id", Integer, primary_key=True),
    Column("patient_id", ForeignKey("patient.id"), nullable=False),
    Column("kind", Text, nullable=False, comment="GrantKind of record_bridge.rights"),
    Column("holder", Text, nullable=False, comment="RPPS, or a patient's key; '' not taken up"),
    Column("parts", Text, nullable=False, server_default="", comment="'' for everything"),
    Column("name", Text, nullable=False, server_default="", comment="as the patient wrote it"),
    Column("reason", Text, nullable=False, server_default=""),
    Column("code", BLOB, comment="SHA-256 of what a relative takes a delegation up with"),
    Column("said_by", Text, nullable=False),
    Column("since_at", Integer, nullable=False),
    Column("until_at", Integer, comment="the end that was said with it"),
    Column("ended_at", Integer, comment="when somebody ended it"),
    Column("ended_by", Text),
    Column("told_at", Integer, comment="when an emergency was told to those who must know"),
    Index("access_right_patient", "patient_id"),
    Index("access_right_holder", "holder", "kind"),
)

imported_event = Table(
    "imported_event",
    METADATA,
    Column("id", Integer, primary_key=True),
    Column("patient_id", ForeignKey("patient.id"), nullable=False),
    Column("at", Integer, nullable=False),
    Column("actor", Text, nullable=False),
    Column("kind", Text, nullable=False),
    Column("facts", Text, nullable=False, comment="JSON; a document by its unique id"),
    Index("imported_event_patient", "patient_id"),
)

TRAIL = trail_tables(METADATA)
