"""What people read about rights on a record, in French."""

from typing import Final

RIGHTS: Final = {
    "care_team": "équipe de soins",
    "attending": "médecin traitant",
    "consent": "accord pour une fois",
    "block": "bloqué",
    "break_glass": "urgence (bris de glace)",
    "samu": "urgence (SAMU, centre 15)",
    "representative": "représentant légal",
    "delegate": "proche",
}
PARTS: Final = {"documents": "documents", "agenda": "agenda"}
REFUSALS: Final = {
    "no_such_professional": "Choisissez un professionnel dans la liste.",
    "no_such_end": "Cette date de fin n'est pas possible\u00a0: un an au plus, à partir de"
    " demain.",
    "no_such_code": "Ce code n'ouvre rien\u00a0: vérifiez-le, ou demandez-en un autre.",
    "no_name": "Écrivez qui est ce proche pour vous.",
    "no_part": "Choisissez ce que ce proche peut voir.",
    "no_reason": "Écrivez le motif\u00a0: il sera lu par le patient.",
    "no_statement": "Cochez la case\u00a0: c'est votre déclaration, elle est conservée.",
    "emergency_refused": "Ce dossier ne s'ouvre pas en urgence\u00a0: le patient s'y est"
    " opposé, ou"
    " votre profession ne le permet pas.",
    "no_such_kind": "Choisissez dans la liste.",
    "no_such_patient": "Aucun dossier de cette structure n'a cette identité qualifiée.",
    "too_many": "Vous avez atteint le nombre possible\u00a0: retirez-en avant d'en ajouter.",
}
WHY_NOT: Final = {
    "outside_care_team": "Vous ne faites pas partie de l'équipe de soins de ce patient.",
    "occupational_physician": "Un médecin du travail a besoin de l'accord exprès du patient.",
    "blocked": "Le patient ne souhaite pas que vous ouvriez son dossier.",
    "opposed_to_opening": "Le patient s'oppose à l'ouverture de son dossier.",
    "closed_record": "Ce dossier est fermé.",
}
TOLD_SUBJECT: Final = "Ouverture d'un dossier en urgence"
TOLD_TEXT: Final = (
    "Bonjour,\n\n"
    "Un professionnel de santé a ouvert un dossier en urgence, avec un motif qui est conservé.\n"
    "Le détail se lit dans le dossier, à la page «\u00a0Qui a consulté mon dossier\u00a0»"
    " pour le patient,\n"
    "et dans l'espace «\u00a0Patients\u00a0» pour le médecin traitant.\n\n"
    "Ce message est envoyé automatiquement, comme la loi le demande.\n"
)
"""No name, no reason, no structure: the record itself says the rest (RULES §14)."""


def right_kind(code: str) -> str:
    """Give what a right is."""
    return RIGHTS.get(code, code)


def right_parts(codes: frozenset[str]) -> str:
    """Give what a relative sees."""
    return " et ".join(PARTS[code] for code in ("documents", "agenda") if code in codes)


def why_not(code: str) -> str:
    """Give why a record does not open to a professional."""
    return WHY_NOT.get(code, "Ce dossier ne vous est pas ouvert.")
