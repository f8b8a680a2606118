"""National code lists that Pli reads: professions, specialties, document types and classes.

Data only, from the ANS nomenclatures. A code that is not here is kept and shown by its own label
or as it is; it is never refused for being unknown.
Source: CI-SIS §JDV_J07 (types, 27/09/2024), CI-SIS §JDV_J57 (classes), CI-SIS §TRE_G15,
CI-SIS §TRE_R38.
"""

from enum import Enum
from types import MappingProxyType


class MailboxType(Enum):
    """Type of a mailbox. Source: ANS nomenclature TRE_R257-TypeBAL; ``PAT`` is ours."""

    PER = "PER"
    """One professional's."""
    ORG = "ORG"
    """A structure's or a service's."""
    APP = "APP"
    """A program's: the bridge's."""
    CAB = "CAB"
    """A group practice's."""
    PAT = "PAT"
    """A patient's; never in the annuaire."""


TYPE_SYSTEM_LOINC = "2.16.840.1.113883.6.1"
TYPE_SYSTEM_TRE_A05 = "1.2.250.1.213.1.1.4.12"
CLASS_SYSTEM = "1.2.250.1.213.1.1.4.1"
PROFESSION_SYSTEM = "1.2.250.1.213.1.1.4.5"

GENETICS_TYPE = "51969-4"
"""Never shown to the patient by delay (RULES §7)."""
OTHER_CLASS = "10"
"""Where a document of an unknown type is shown."""

CLASSES = MappingProxyType(
    {
        "10": "Comptes rendus",
        "11": "Synthèses",
        "31": "Imagerie médicale",
        "42": "Prescriptions",
        "43": "Dispensations",
        "44": "Plans et protocoles de soins",
        "45": "Traitements administrés",
        "52": "Certificats et déclarations",
        "60": "Données de remboursement",
        "90": "Documents que vous avez déposés",
        "95": "Documents de gestion",
    }
)
"""Class code -> plural label, in the order pages show them."""

PROFESSIONS = MappingProxyType(
    {
        "10": "médecin",
        "21": "pharmacien",
        "26": "audioprothésiste",
        "28": "opticien-lunetier",
        "31": "assistant dentaire",
        "32": "physicien médical",
        "35": "aide-soignant",
        "36": "ambulancier",
        "37": "auxiliaire de puériculture",
        "38": "préparateur en pharmacie hospitalière",
        "39": "préparateur en pharmacie",
        "40": "chirurgien-dentiste",
        "41": "assistant de service social",
        "50": "sage-femme",
        "60": "infirmier",
        "69": "infirmier psychiatrique",
        "70": "masseur-kinésithérapeute",
        "71": "ostéopathe",
        "72": "psychothérapeute",
        "73": "chiropracteur",
        "80": "pédicure-podologue",
        "81": "orthoprothésiste",
        "82": "podo-orthésiste",
        "83": "orthopédiste-orthésiste",
        "84": "oculariste",
        "85": "épithésiste",
        "86": "technicien de laboratoire",
        "91": "orthophoniste",
        "92": "orthoptiste",
        "93": "psychologue",
        "94": "ergothérapeute",
        "95": "diététicien",
        "96": "psychomotricien",
        "98": "manipulateur d'électroradiologie médicale",
    }
)
"""TRE_G15 code -> label. Source: CI-SIS §JDV_J01, checked on the published list."""

SPECIALTIES = MappingProxyType(
    {
        "SM03": "biologie médicale",
        "SM26": "qualifié en médecine générale",
        "SM27": "médecine interne",
        "SM32": "neurologie",
        "SM36": "oncologie, option médicale",
        "SM40": "pédiatrie",
        "SM41": "pneumologie",
        "SM44": "radiodiagnostic",
        "SM54": "médecine générale",
    }
)
"""TRE_R38 codes met in the published samples; the annuaire extraction brings its own labels."""

# code, label, class. The association of type and class is the published one where seen, else
# ours by category name (facts §4.4).
_TYPES: tuple[tuple[str, str, str], ...] = (
    ("ATTEST-ASS-COMPL", "Attestation assurance complémentaire", "95"),
    ("47420-5", "CR de bilan fonctionnel", "10"),
    ("ATTEST-RESID", "Attestation de résidence", "95"),
    ("51851-4", "Document administratif", "95"),
    ("ATTEST-HEBGT", "Attestation d'hébergement", "95"),
    ("51969-4", "CR de génétique moléculaire", "10"),
    ("ATTEST-DROITS-AM", "Attestation de droits à l'assurance maladie", "95"),
    ("52040-3", "Document encapsulant une image d'illustration non DICOM", "31"),
    ("AUTORIS-SOINS", "Autorisation de soins et actes non usuels sanitaires", "95"),
    ("55115-0", "Demande d'actes d'imagerie", "42"),
    ("BIL_AUTO", "CR de bilan d'évaluation de la perte d'autonomie", "10"),
    ("56445-0", "Bilan médicamenteux (Officine)", "11"),
    ("CERT_DECL", "Certificat, déclaration", "52"),
    ("56446-8", "Notification de rendez-vous", "10"),
    ("DISP_AUT", "Dispensation (autre)", "43"),
    ("57828-6", "Prescription (autre)", "42"),
    ("EXPPAT_1", "Volontés et droits du patient", "90"),
    ("57832-8", "Prescription de soins", "42"),
    ("EXPPAT_2", "Autre document du patient", "90"),
    ("57833-6", "Prescription de produits de santé", "42"),
    ("EXPPAT_3", "Directives anticipées", "90"),
    ("59283-2", "CR d'examen de l'enfant", "10"),
    ("IMG-KOS", "Reference d'objets d'un examen d'imagerie", "31"),
    ("59284-0", "Attestation de consentement", "95"),
    ("PROT_ALD", "Protocole de soins ALD", "44"),
    ("60280-5", "Fiche de retour du service des urgences", "11"),
    ("REMB", "Données de remboursement", "60"),
    ("60568-3", "CR d'anatomie et de cytologie pathologiques", "10"),
    ("SYNTH", "Synthèse", "11"),
    ("60591-5", "Synthèse médicale", "11"),
    ("DOCPAT01", "Synthèse déposée par le patient", "90"),
    ("60593-1", "Dispensation médicamenteuse", "43"),
    ("DOCPAT02", "Traitement ou document de soins déposé par le patient", "90"),
    ("61357-0", "Intervention pharmaceutique", "43"),
    ("DOCPAT03", "CR déposé par le patient", "90"),
    ("67851-6", "CR d'admission", "10"),
    ("DOCPAT04", "Imagerie déposée par le patient", "90"),
    ("68599-0", "Synthèse psychiatrique", "11"),
    ("DOCPAT05", "CR de biologie déposé par le patient", "90"),
    ("68817-6", "Bilan de santé et de prévention de l'enfant", "10"),
    ("DOCPAT06", "CR de prévention déposé par le patient", "90"),
    ("70004-7", "CR d'acte diagnostique (autre)", "10"),
    ("DOCPAT07", "Certificat déposé par le patient", "90"),
    ("78341-5", "Fiche de transfert vers le service des urgences", "11"),
    ("DOCPAT08", "Profil médical Mon espace santé", "90"),
    ("74207-2", "Document de liaison d'urgence", "11"),
    ("DOCPAT09", "Document administratif déposé par le patient", "90"),
    ("74465-6", "Questionnaire patient", "90"),
    ("PIECE-IDENTITE", "Copie pièce d'identité", "95"),
    ("75468-9", "Renouvellement ordonnance par pharmacien correspondant", "43"),
    ("PRESC-AAT", "Prescription arrêt de travail", "42"),
    ("75482-0", "CR d'acte thérapeutique à visée préventive", "10"),
    ("PRESC-BIO", "Prescription d'actes de biologie médicale", "42"),
    ("75492-9", "CR d'acte diagnostique à visée préventive ou de dépistage", "10"),
    ("PRESC-KINE", "Prescription d'actes de kinésithérapie", "42"),
    ("75496-0", "Demande d'acte de télémédecine", "42"),
    ("PRESC-INF", "Prescription d'actes infirmiers", "42"),
    ("77436-4", "CR d'anesthésie", "10"),
    ("PRESC-PEDI", "Prescription d'actes de pédicurie", "42"),
    ("77604-7", "Planification thérapeutique", "44"),
    ("PRESC-ORTHOPHO", "Prescription d'actes d'orthophonie", "42"),
    ("78513-9", "CR de consultation en ophtalmologie", "10"),
    ("PRESC-ORTHOPTIE", "Prescription d'actes d'orthoptie", "42"),
    ("78601-2", "CR d'entretien pharmaceutique", "10"),
    ("FEUILLE-DE-STYLE", "Feuille de style", "95"),
    ("80565-5", "CR d'administration de médicaments", "45"),
    ("FICHE-CONTACTS", "Fiche contacts", "95"),
    ("80771-9", "Projet d'accueil individualisé", "44"),
    ("EXPORT_DUI", "Export du Dossier Usager Informatisé", "95"),
    ("80788-3", "Projet personnalisé d'accompagnement", "44"),
    ("11369-6", "Historique des vaccinations", "11"),
    ("80820-4", "Formulaire de conciliation médicamenteuse (Hôpital)", "10"),
    ("11488-4", "CR ou fiche de consultation ou de visite", "10"),
    ("83836-7", "Schéma dentaire", "10"),
    ("11490-0", "Lettre de liaison à la sortie d'un établissement de soins", "11"),
    ("83869-8", "Plan personnalisé de prévention", "44"),
    ("34112-3", "CR hospitalier (séjour)", "10"),
    ("83901-9", "Bilan psychologique", "10"),
    ("11502-2", "CR d'examens biologiques", "10"),
    ("83981-1", "Lettre de liaison à la sortie d'une structure sociale ou médico-sociale", "11"),
    ("11505-5", "CR d'acte thérapeutique (autre)", "10"),
    ("85208-7", "CR de télémédecine", "10"),
    ("11506-3", "CR ou fiche de suivi de soins par auxiliaire médical", "10"),
    ("86531-1", "Attestation de sortie", "95"),
    ("15507-7", "CR de passage aux urgences", "10"),
    ("87273-9", "Note de vaccination", "45"),
    ("15508-5", "CR d'accouchement", "10"),
    ("88348-8", "Lettre de liaison d'entrée en structure sociale ou médico-sociale", "11"),
    ("18776-5", "Plan personnalisé de soins", "44"),
    ("89601-9", "Certificat médical", "52"),
    ("18748-4", "CR d'imagerie médicale", "31"),
    ("93024-8", "CR de consultation pharmaceutique", "10"),
    (
        "18761-7",
        "Note de transfert (dont lettre de liaison à l'entrée en établissement de soins)",
        "11",
    ),
    ("96349-6", "Lettre d'adressage", "11"),
    ("28617-9", "Bilan bucco-dentaire", "10"),
    ("96874-3", "COVID-19 Attestation de vaccination", "52"),
    ("28653-4", "Document du secteur social / médico-social", "10"),
    ("96173-0", "Test rapide d'orientation diagnostique", "10"),
    ("29274-8", "Mesures de signes vitaux", "10"),
    ("57055-6", "Synthèse antepartum", "11"),
    ("34120-6", "Bilan par professionnel de santé", "10"),
    ("57057-2", "Synthèse Salle de Naissance Mère", "11"),
    ("34133-9", "Synthèse d'épisode de soins", "11"),
    ("57075-4", "Synthèse Salle de Naissance Enfant", "11"),
    ("34749-2", "CR de consultation pré-anesthésique", "10"),
    ("89235-6", "Synthèse Suites de Couches Mère", "11"),
    ("34794-8", "CR de réunion de concertation pluridisciplinaire", "10"),
    ("78489-2", "Synthèse Enfant en Maternité", "11"),
    ("34842-5", "Grille d'évaluation médico-social", "10"),
    ("89233-1", "CR de grossesse", "10"),
    ("34874-8", "CR opératoire", "10"),
    ("101881-1", "Carte d'implant", "45"),
    ("34875-5", "Évaluation postopératoire et note de suivi", "10"),
    ("E1762", "Full Document", "10"),
)

_BY_TYPE = MappingProxyType({code: (label, class_code) for code, label, class_code in _TYPES})


def type_label(code: str) -> str | None:
    """Give the French label of a document type, or None when the code is unknown."""
    entry = _BY_TYPE.get(code)
    return entry[0] if entry else None


def class_of(type_code: str) -> str:
    """Give the class of a document type; an unknown type counts as a report (``10``)."""
    entry = _BY_TYPE.get(type_code)
    return entry[1] if entry else OTHER_CLASS


def class_label(class_code: str) -> str:
    """Give the label of a class; an unknown one is shown as other documents."""
    return CLASSES.get(class_code, "Autres documents")


def known_types() -> tuple[str, ...]:
    """Give every document type code of the value set, in its order."""
    return tuple(code for code, _, _ in _TYPES)


def profession_label(code: str) -> str:
    """Give the label of a profession from ``10``, ``G15_10`` or ``G15_10/SM26``; or nothing."""
    bare, _, specialty = code.removeprefix("G15_").partition("/")
    label = PROFESSIONS.get(bare, "")
    detail = SPECIALTIES.get(specialty, "")
    return f"{label}, {detail}" if label and detail else label
