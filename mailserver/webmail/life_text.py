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
    "record_closed": "Votre dossier est fermé\u00a0: rien ne s'y ajoute.",
    "too_long": "Ce texte est trop long\u00a0: 10\u00a0000 caractères au plus.",
    "too_many": "Vous avez atteint le nombre possible\u00a0: retirez-en avant d'en ajouter.",
}
PACK_REFUSALS: Final = {
    **{key: REFUSALS[key] for key in ("file_empty", "file_too_large", "file_type", "file_ending")},
    "form_is_pdf": "Un formulaire à remplir est un PDF.",
    "no_title": "Écrivez un titre.",
    "no_such_due": "Choisissez un jour entre aujourd'hui et dans deux ans.",
    "no_such_kind": "Choisissez dans la liste.",
    "opposed": "Ce patient s'oppose à ce que d'autres ajoutent à son dossier\u00a0: rien ne"
    " peut lui être envoyé par cette page.",
    "record_closed": "Ce dossier est fermé.",
    "pack_empty": "Ajoutez au moins un document avant d'envoyer.",
    "pack_sent": "Cet envoi est parti\u00a0: il ne change plus.",
    "nothing_to_remind": "Il n'y a rien à rappeler.",
    "reminded_today": "Un rappel est déjà parti il y a moins d'un jour.",
    "not_told": "C'est enregistré, mais le message au patient n'est pas parti\u00a0: prévenez-le.",
    "too_many": "Le nombre possible est atteint.",
}
"""What a professional reads when a pack does not go on."""
PACK_SUBJECT: Final = "Des documents vous attendent avant votre admission"
PACK_TEXT: Final = (
    "Bonjour,\n\n"
    "Des documents à lire, et peut-être à remplir et à rendre, vous attendent avant votre venue.\n"
    "Ils sont dans votre dossier, à la page «\u00a0Mon admission\u00a0», avec la date à"
    " respecter.\n\n"
    "Une question\u00a0? Répondez à ce message.\n"
)
"""No title, no place, no name: the page says the rest (RULES §14)."""
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
    "pack_reminded": "rappel d'une admission à préparer",
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
