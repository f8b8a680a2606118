"""What pages say of the medicines that documents name, in French."""

from dataclasses import dataclass
from datetime import date
from typing import Final, Self

from mailserver.webmail.text_fr import day, month
from record_bridge.formats.dtm import parse_dtm
from record_bridge.model import Medication, MedicationKind

_KINDS: Final = {
    MedicationKind.TREATMENT: "Traitement",
    MedicationKind.PRESCRIBED: "Prescrit",
    MedicationKind.PLANNED: "Prévu",
    MedicationKind.DISPENSED: "Délivré",
}


def kind(code: MedicationKind) -> str:
    """Give what a document says of a medicine, in a word."""
    return _KINDS[code]


def when(line: Medication) -> str:
    """Give the days and conditions of a medicine; never that it goes on or ended (RULES §8)."""
    told = [_period(*(_Told.of(text) for text in (line.low, line.high)))]
    if line.as_needed:
        told.append("si besoin")
    if line.renewals:
        told.append(f"renouvelable {line.renewals}\u00a0fois")
    return ", ".join(filter(None, told))


@dataclass(frozen=True, slots=True)
class _Told:
    """A time in words, as precise as it was written, after "de" and after "à"."""

    words: str
    since: str
    until: str

    @classmethod
    def of(cls, text: str | None) -> Self | None:
        """None when it cannot be read."""
        found = parse_dtm(text)
        if found is None:
            return None
        if found.day is not None:
            words = day(found.day)
            return cls(f"le {words}", f"du {words}", f"au {words}")
        digits = found.text.strip()
        year = digits[:4]
        words = month(date(int(year), int(digits[4:6]), 1)) if len(digits) > len(year) else year
        article = "d'" if words[0] in "ao" else "de "
        return cls(words, f"{article}{words}", f"à {words}")


def _period(low: _Told | None, high: _Told | None) -> str:
    if low is not None and high is not None:
        return low.words if low == high else f"{low.since} {high.until}"
    if low is not None:
        return f"à partir {low.since}"
    return "" if high is None else f"jusqu'{high.until}".replace("'à ", "'en ")
