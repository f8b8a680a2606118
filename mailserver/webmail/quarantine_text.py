"""What professionals read about documents that wait for their decision, in French."""

from collections.abc import Mapping
from typing import Any, Final

from directory.codes import type_label
from mailserver.webmail.text_fr import plural

REFUSALS: Final = {
    "no_reason": "Écrivez pourquoi\u00a0: la raison est conservée avec votre nom.",
    "say_whose": "Choisissez le patient.",
    "no_such_patient": "Ce patient n'est pas enregistré dans votre structure.",
    "record_closed": "Le dossier de ce patient est fermé.",
    "not_qualified": "Seule une identité qualifiée, non douteuse, peut recevoir un document.",
    "opposed": "Ce patient s'oppose à l'ajout de documents dans son dossier.",
    "another_number": "Ce document porte un autre numéro INS\u00a0: il va au dossier de ce numéro,"
    " ou nulle part.",
    "not_for_a_person": "Ce document ne peut pas être intégré\u00a0: voyez le motif ci-dessous.",
    "no_such_decision": "Choisissez une décision.",
    "no_open_row": "Cet élément n'attend plus de décision.",
    "nothing_to_undo": "Il n'y a rien à annuler.",
}
DECISIONS: Final = {"filed": "intégré", "sent_back": "renvoyé", "set_aside": "mis de côté"}
TRAITS: Final = {
    "family": "Nom de naissance",
    "given": "Premier prénom",
    "birth_date": "Date de naissance",
    "sex": "Sexe",
    "birth_place": "Lieu de naissance",
}


def age(hours: int) -> str:
    """Give ``il y a 3 heures``, from two days on in days."""
    if hours < 1:
        return "il y a moins d'une heure"
    if hours < 48:
        return f"il y a {plural(hours, 'heure', 'heures')}"
    return f"il y a {hours // 24} jours"


def waiting_type(item: Mapping[str, Any]) -> str:
    """Give what an item of quarantine is called while nothing better is known of it."""
    if not item["type_code"]:
        return "Document illisible"
    return type_label(item["type_code"]) or "Document de santé"
