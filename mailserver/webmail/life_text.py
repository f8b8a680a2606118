"""What people read about what they add to their record, in French."""

from typing import Final

REFUSALS: Final = {
    "file_empty": "Choisissez un fichier.",
    "file_too_large": "Ce fichier est trop grand\u00a0: 5 Mo au plus.",
    "file_type": "Ce fichier n'est pas accepté\u00a0: PDF, JPEG, PNG, TIFF, RTF ou texte"
    " seulement.",
    "file_ending": "Le nom de ce fichier ne correspond pas à ce qu'il contient.",
    "no_title": "Écrivez quelque chose avant d'enregistrer.",
    "no_such_day": "Cette date n'est pas possible\u00a0: choisissez un jour entre votre"
    " naissance et"
    " aujourd'hui.",
    "no_such_value": "Cette valeur n'est pas possible\u00a0: vérifiez le nombre et son unité.",
    "no_such_measure": "Choisissez une mesure dans la liste.",
    "pack_unfinished": "Il reste quelque chose à lire ou à rendre.",
    "too_many": "Vous avez atteint le nombre possible\u00a0: retirez-en avant d'en ajouter.",
}
PROFILE_KINDS: Final = {
    "allergy": "Allergies",
    "treatment": "Traitements en cours",
    "history": "Antécédents (maladies, opérations)",
    "measurement": "Mesures",
}
HISTORY: Final = {
    "agenda_decided": "réponse dans l'agenda",
    "calendar_key_made": "accès donné à un calendrier",
    "calendar_key_stopped": "accès d'un calendrier arrêté",
    "deposit_added": "fichier ajouté",
    "deposit_withdrawn": "fichier retiré",
    "directive_withdrawn": "volonté retirée",
    "directive_written": "volonté écrite",
    "invitation_answered": "réponse à une invitation",
    "opposition_said": "opposition",
    "opposition_taken_back": "opposition levée",
    "own_entry_deleted": "rendez-vous supprimé",
    "own_entry_written": "rendez-vous noté",
    "pack_acknowledged": "admission préparée",
    "pack_closed": "admission close par la structure",
    "pack_form_returned": "formulaire d'admission rendu",
    "pack_item_acknowledged": "document d'admission lu",
    "pack_sent": "documents d'admission reçus",
    "patient_changed": "identité corrigée",
    "patient_registered": "ouverture du dossier",
    "prevention_declared": "«\u00a0déjà fait\u00a0» dans l'agenda",
    "prevention_undone": "«\u00a0déjà fait\u00a0» annulé dans l'agenda",
    "profile_noted": "profil médical complété",
    "profile_removed": "ligne du profil médical retirée",
}


def profile_kind(code: str) -> str:
    """Give the name of a group of the medical profile."""
    return PROFILE_KINDS.get(code, "Autre")


def history_kind(code: str) -> str:
    """Give what happened to a record."""
    return HISTORY.get(code, "modification du dossier")
