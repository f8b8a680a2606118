"""What people read, in French: dates, sizes, labels, verdicts."""

import re
import unicodedata
from collections.abc import Iterable, Mapping
from datetime import date, datetime, time
from typing import Final
from zoneinfo import ZoneInfo

from directory.codes import MailboxType, known_types, type_label
from mailserver.store.model import Folder

PARIS: Final = ZoneInfo("Europe/Paris")
_MONTHS: Final = [
    "janvier",
    "février",
    "mars",
    "avril",
    "mai",
    "juin",
    "juillet",
    "août",
    "septembre",
    "octobre",
    "novembre",
    "décembre",
]
_SHORT_MONTHS: Final = (
    "janv.",
    "févr.",
    "mars",
    "avr.",
    "mai",
    "juin",
    "juil.",
    "août",
    "sept.",
    "oct.",
    "nov.",
    "déc.",
)
_FOLDERS: Final = {
    "INBOX": "Boîte de réception",
    "\\Sent": "Envoyés",
    "\\Drafts": "Brouillons",
    "\\Trash": "Corbeille",
    "\\Junk": "Indésirables",
    "\\Archive": "Archives",
}
_STANDINGS: Final = {
    "failed": "Non remis",
    "delayed": "En attente, de nouvelles tentatives sont faites",
    "submitted": "En cours d'envoi",
    "relayed": "Transmis à l'opérateur du destinataire",
    "quarantined": "Remis, mis de côté pour vérification",
    "delivered": "Remis",
    "displayed": "Remis et affiché",
    "filed": "Remis et rangé dans le dossier",
}
"""Where a sent message stands, what its sender should know first."""
_MARKS: Final = {
    "signature_unverifiable": "signature non vérifiable",
    "other_sender": "transmis par un autre établissement que celui de l'auteur",
    "forwarded": "transféré par un professionnel de la structure",
    "replaces_unknown": "remplace un document non reçu ici",
    "filed_after_registration": "rangé après votre enregistrement",
    "from_patient": "déposé par vous",
    "filed_by_person": "rangé sur décision d'un professionnel",
    "filed_by_hand": "reçu par message, rangé par un professionnel",
    "imported": "repris d'une archive, non vérifié ici",
}
_CARE_MARKS: Final = {
    "filed_after_registration": "rangé après l'enregistrement du patient",
    "from_patient": "déposé par le patient",
}
_DOCUMENT_STATUS: Final = {
    "current": "",
    "superseded": "Une version plus récente existe",
    "withdrawn": "Document retiré par son auteur",
}
_AGENDA_KINDS: Final = {
    "follow_up": "Rendez-vous ou suivi",
    "procedure": "Acte de soins",
    "examination": "Examen",
    "vaccination": "Vaccination",
    "vaccination_due": "Vaccination à faire",
    "prescription": "Ordonnance",
    "appointment": "Rendez-vous",
    "prevention": "Prévention",
    "certificate": "Certificat de santé",
    "own": "Noté par vous",
    "invited": "Invitation acceptée",
    "admission": "Admission\u00a0: à lire et à rendre",
}
_AGENDA_STATUS: Final = {
    "proposed": "Proposé",
    "to_schedule": "À programmer",
    "history": "Passé",
    "confirmed": "Fait",
    "dismissed": "Écarté",
}
_ACCESS_KINDS: Final = {
    "record_read": "consultation du dossier",
    "document_read": "consultation d'un document",
    "document_released": "mise à disposition d'un document",
    "document_filed": "rangement d'un document reçu",
    "record_listed": "consultation du dossier",
    "agenda_read": "consultation de l'agenda",
    "agenda_listed": "consultation de l'agenda",
    "results_read": "consultation du suivi biologique",
    "medications_read": "consultation des médicaments et des vaccins",
    "agenda_decided": "réponse dans l'agenda",
    "prevention_declared": "«\u00a0déjà fait\u00a0» dans l'agenda",
    "prevention_undone": "«\u00a0déjà fait\u00a0» annulé dans l'agenda",
    "calendar_read": "lecture de l'agenda",
    "record_exported": "copie de tout le dossier",
    "calendar_key_made": "accès d'un calendrier à l'agenda",
    "api_token_made": "accès d'une application au dossier",
    "api_token_stopped": "fin de l'accès d'une application au dossier",
    "calendar_key_stopped": "accès d'un calendrier arrêté",
    "document_pdf": "téléchargement d'un document",
    "access_refused": "accès refusé",
    "emergency_opened": "ouverture en urgence",
    "right_given": "changement de qui peut voir le dossier",
    "right_ended": "changement de qui peut voir le dossier",
    "document_masked": "document masqué",
    "document_unmasked": "document démasqué",
    "record_closed": "fermeture du dossier",
    "record_opened_again": "réouverture du dossier",
    "read_elsewhere": "lecture d'un document, rangé par erreur dans un autre dossier",
    "document_withdrawn": "retrait d'un document",
    "document_restored": "rétablissement d'un document",
    "document_taken_out": "sortie d'un document rangé par erreur",
    "pack_listed": "suivi des documents d'admission",
    "pack_form_read": "lecture d'un formulaire d'admission rendu",
    "retention_suspended": "échéance de conservation suspendue",
    "retention_resumed": "échéance de conservation rétablie",
    "pack_read": "suivi d'une admission",
}

LOGIN_REFUSED: Final = (
    "Identifiant, mot de passe ou code incorrect. Vérifiez-les et réessayez\u00a0; "
    "après plusieurs essais, patientez quelques minutes."
)
PAGE_EXPIRED: Final = "Cette page avait expiré. Rien n'a été perdu\u00a0: réessayez."

GONE: Final = 410
"""The page of a form whose object is not there, in place of 404's."""
ERRORS: Final = {
    400: ("Demande illisible", "Le navigateur a envoyé une demande que nous ne comprenons pas."),
    403: (
        "Action refusée",
        (
            "Cette page avait expiré ou la demande ne vient pas d'ici. "
            "Revenez en arrière, rechargez la page et réessayez."
        ),
    ),
    404: (
        "Page introuvable",
        "Cette page n'existe pas, ou n'est pas accessible avec votre compte.",
    ),
    GONE: (
        "Déjà fait, ou plus là",
        (
            "Ce que vous demandez a déjà été fait, peut-être par un double clic ou dans un autre"
            " onglet, ou ne se trouve plus ici. Revenez à la page précédente et rechargez-la."
        ),
    ),
    405: ("Action impossible", "Cette page ne se demande pas de cette façon."),
    408: ("Trop lent", "Votre envoi n'est pas arrivé à temps. Réessayez."),
    413: ("Envoi trop volumineux", "Ce que vous envoyez dépasse la taille acceptée."),
    500: ("Une erreur est survenue", "Le problème vient de nous. Réessayez dans un instant."),
    503: (
        "Momentanément indisponible",
        "Votre dossier ne peut pas être ouvert pour le moment. Réessayez dans quelques minutes.",
    ),
}


_PACKAGE_SUBJECT: Final = "XDM/1.0/DDM+"
"""Source: MSS-CL §3.1: ``XDM/1.0/DDM+<label> NOM prénom JJ/MM/AAAA``, in plain ASCII."""
_REPLACES: Final = "[Annule et remplace] "
_CUT_LABEL: Final = 30
"""A label this long may have been cut by its sender."""
_BEFORE_SIGNS: Final = re.compile(r" (?=[:;?!»])")
_BORN: Final = re.compile(r" ?\d\d/\d\d/\d{4}\Z")


def _bare(text: str) -> str:
    decomposed = unicodedata.normalize("NFKD", text.replace("’", "'"))
    return decomposed.encode("ascii", "ignore").decode("ascii").lower()


_LABELS: Final = {_bare(label): label for label in map(type_label, known_types()) if label}


def subject_title(subject: str, *, own: bool) -> str:
    """Give a title for people: a package's subject is written for programs.

    Args:
        subject: as the sender wrote it.
        own: whether the reader is the patient, who needs neither name nor birth date.
    """
    replaces = subject.startswith(_REPLACES)
    written = subject.removeprefix(_REPLACES)
    if not written.startswith(_PACKAGE_SUBJECT):
        return subject
    label, who = _split(written.removeprefix(_PACKAGE_SUBJECT).strip())
    title = label if own or not who else f"{label} {who}"
    return f"{title} (remplace un envoi précédent)" if replaces else title


def _split(text: str) -> tuple[str, str]:
    """Tell the document's label from its patient: a known label, else up to a name in capitals."""
    bare = _bare(text)
    known = [key for key in _LABELS if f"{bare} ".startswith(f"{key} ")]
    if known and text.isascii():
        longest = max(known, key=len)
        return _LABELS[longest], text[len(longest) :].strip()
    words = _BORN.sub("", text).split(" ")
    number = next((n for n, word in enumerate(words) if n and word.isupper()), len(words))
    label = " ".join(words[:number])
    cut = [key for key in _LABELS if key.startswith(_bare(label))]
    whole = _LABELS[cut[0]] if len(cut) == 1 and len(label) >= _CUT_LABEL else label
    return whole or "Document de santé", text[len(label) :].strip()


def day(moment: datetime | date | None) -> str:
    """Give ``14 mars 2026``, in Paris."""
    if moment is None:
        return "date inconnue"
    local = moment.astimezone(PARIS) if isinstance(moment, datetime) else moment
    number = "1er" if local.day == 1 else str(local.day)
    return f"{number}\u00a0{_MONTHS[local.month - 1]} {local.year}"


def month(day_: date) -> str:
    """Give ``mars 2026``."""
    return f"{_MONTHS[day_.month - 1]} {day_.year}"


def short_month(day_: date) -> str:
    """Give ``déc.``, for a tile of the agenda."""
    return _SHORT_MONTHS[day_.month - 1]


def moment(at: datetime | None) -> str:
    """Give ``14 mars 2026 à 9 h 05``, in Paris; the day alone when it is what was written."""
    if at is None:
        return "date inconnue"
    local = at.astimezone(PARIS)
    if local.time() == time.min:
        return day(at)
    return f"{day(at)} à {local.hour}\u00a0h\u00a0{local.minute:02}"


def today(at: datetime) -> date:
    """Give the civil day in Paris."""
    return at.astimezone(PARIS).date()


def civil_day(text: str) -> str:
    """Give the day of ``19850314`` or ``1985-03-14`` in words; the text itself otherwise."""
    digits = text.replace("-", "")
    try:
        return day(date(int(digits[:4]), int(digits[4:6]), int(digits[6:8])))
    except ValueError:
        return text


def identity_status(code: str) -> str:
    """Give where a local identity stands, as one of « une identité »."""
    return {
        "qualifiee": "qualifiée",
        "validee": "validée",
        "recuperee": "récupérée",
        "provisoire": "provisoire",
    }.get(code, code)


def trait(value: str, name: str) -> str:
    """Give a strict trait for people to compare: a date in words, a sex by its name."""
    if not value:
        return "absent"
    if name == "birth_date":
        return civil_day(value)
    return sex(value) if name == "sex" else value


def size(octets: int) -> str:
    """Give a size for people: ``12 ko``, ``1,4 Mo``."""
    if octets < 1000:
        return f"{octets} octets"
    if octets < 1_000_000:
        return f"{round(octets / 1000)} ko"
    return f"{octets / 1_000_000:.1f} Mo".replace(".", ",")


def spaced(text: str) -> str:
    """Put no-break spaces where French has them, in words that are ours."""
    return _BEFORE_SIGNS.sub("\u00a0", text).replace("« ", "«\u00a0")


def plural(count: int, one: str, many: str) -> str:
    """Give ``1 document`` or ``3 documents``; French counts 0 as one."""
    return f"{count} {one if count < 2 else many}"


def folder_name(folder: Folder) -> str:
    """Give a folder's name as people know it."""
    key = folder.special_use or folder.name
    return _FOLDERS.get(key, folder.name)


def mailbox_kind(kind: MailboxType) -> str:
    """Give what a mailbox is."""
    return {
        MailboxType.PER: "Boîte personnelle",
        MailboxType.ORG: "Boîte de la structure",
        MailboxType.CAB: "Boîte du cabinet",
        MailboxType.APP: "Boîte applicative",
        MailboxType.PAT: "Ma messagerie de santé",
    }[kind]


def mark(code: str) -> str:
    """Give a document's mark."""
    return _MARKS.get(code, code)


def care_mark(code: str) -> str:
    """Give a document's mark to a professional."""
    return _CARE_MARKS.get(code) or mark(code)


def document_status(code: str) -> str:
    """Give a document's status; "" for a current one."""
    return _DOCUMENT_STATUS.get(code, "")


def agenda_kind(code: str) -> str:
    """Give what an agenda entry is."""
    return _AGENDA_KINDS.get(code, "À noter")


def agenda_status(code: str) -> str:
    """Give where an agenda entry stands."""
    return _AGENDA_STATUS.get(code, code)


def access_kind(code: str) -> str:
    """Give what was done to the record."""
    return _ACCESS_KINDS.get(code, "consultation du dossier")


def actor(code: str, own: str, names: Mapping[str, str] | None = None) -> str:
    """Give who did something: a professional by name, anybody else by what they are.

    Args:
        code: of the trail, ``practitioner:<RPPS>`` and the like.
        own: the reader's.
        names: RPPS -> name, of the professionals that are known.
    """
    if code == own:
        return "Vous"
    kind, _, ref = code.partition(":")
    if kind == "practitioner" and ref in (names or {}):
        return (names or {})[ref]
    return {
        "account": "Le patient",
        "practitioner": "Un professionnel de la structure",
        "representative": "Un représentant légal",
        "delegate": "Un proche",
        "calendar": "Un calendrier personnel",
        "stranger": "Une personne dont ce n'est pas le dossier",
        "application": "Une application",
        "cli": "L'administration du site",
        "bridge": "Le rangement automatique",
    }.get(kind, "Le rangement automatique")


def reader(code: str, own: str) -> str:
    """Give who read messages of a patient's mailbox, as the mail's trail names them.

    Args:
        code: ``account:<id>`` in the webmail, ``mailbox:<id>`` with a device password.
        own: the account of who looks.
    """
    if code == own:
        return "Vous"
    return {
        "account": "Un autre compte de votre messagerie",
        "mailbox": "Un de vos appareils",
        "cli": "L'administration du site",
    }.get(code.partition(":")[0], "L'administration du site")


def reading_way(code: str) -> str:
    """Give by which way messages were read."""
    ways = {"imap": "par un logiciel de messagerie", "webmail": "sur ce site"}
    return ways.get(code, "par une commande")


def sex(code: str) -> str:
    """Give a sex as the record shows it."""
    return {"M": "Masculin", "F": "Féminin"}.get(code, "Indéterminé")


def standing(states: Iterable[str]) -> str:
    """Say where a sent message stands: of several recipients, what needs attention most.

    Args:
        states: of ``Progress.state``; none gives "".
    """
    known = set(states)
    return next((text for state, text in _STANDINGS.items() if state in known), "")


FHIR_SCOPES: Final = {
    "DocumentReference": "les documents",
    "Appointment": "l'agenda",
    "Immunization": "les vaccinations",
    "Patient": "l'identité",
    "AuditEvent": "les accès au dossier",
}
"""What an application may read, in the patient's words."""
