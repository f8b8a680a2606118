"""HPRIM Médecin text of a fictitious patient who carries canaries."""


def letter(
    *,
    family: str = "ZZCANARY-NOM",
    given: str = "ZZCANARYPRENOM",
    born: str = "28/03/1979",
    number: str = "2 79 03 99 990 001 78",
    end: str = "****FIN****\n",
) -> str:
    """Write one letter, LF line ends."""
    header = (
        "0042", family, given, "1 rue de la Paix", "", "75001 PARIS", born, number,
        "D-7", "22/11/2026", "LABO DE TEST", "DR MARTIN",
    )  # fmt: skip
    return "\n".join(header) + "\nMadame, glycémie 0,95 g/L ce jour.\n" + end


HEADER = letter(end="")
"""A letter without its end mark."""
