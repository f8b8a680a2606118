"""The written allow-list of what delivery may refuse, as SMTP replies; pure.

Losing a legitimate message is worse than asking the sender to try again, so a permanent refusal
exists only when it stands here; everything unforeseen is ``TRY_LATER``, told by the caller.

| status | reply | why |
|---|---|---|
| malformed message | 554 5.6.0 | bare CR, LF, NUL; a header starting with a blank; no one From |
| header too long | 552 5.3.4 | past what the scanner reads, a field could escape the cuts (S17) |
| loop | 554 5.4.6 | a hundred Received fields |
| not your address | 553 5.7.1 | the submitter is not the one who the message says wrote it (S16) |
| two patients | 554 5.7.1 | its documents, or its recipients, are of two patients (RULES §5) |
| patients stay here | 553 5.7.1 | RULES §11 |
| no such mailbox | 550 5.1.1 | a recipient of this site that is not there, or closed (RULES §11) |
| not listed | 550 5.7.1 | a recipient outside the trust space |
| no encryption | 554 5.7.5 | the recorded certificate of a recipient is not good now (C14) |
| not the peer's | 550 5.7.1 | From is of a domain that the peer does not speak for (S14) |

Texts are fixed and hold nothing of what the peer sent.

Source: RFC 5321 §4.2, RFC 3463 §3, STYLE §1.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Reply:
    """One SMTP reply: its code, its enhanced status and its fixed text."""

    code: int
    enhanced: str
    text: str

    @property
    def permanent(self) -> bool:
        """Whether the sender must not try again."""
        return self.code >= 500


MALFORMED = Reply(554, "5.6.0", "Malformed message")
HEADER_TOO_LONG = Reply(552, "5.3.4", "Message header too long")
LOOP = Reply(554, "5.4.6", "Too many hops")
ONE_FROM = Reply(554, "5.6.0", "Exactly one From field with one address is required")
ONE_OF_YOURS = Reply(553, "5.7.1", "Exactly one From field with one address of yours is required")
NOT_YOUR_ADDRESS = Reply(553, "5.7.1", "Not an address of yours")
ONE_PATIENT = Reply(554, "5.7.1", "A message is about one patient only")
PATIENTS_STAY = Reply(553, "5.7.1", "Patients write to mailboxes of this site only")
NO_SUCH_MAILBOX = Reply(550, "5.1.1", "No such mailbox here")
BAD_RECIPIENT = Reply(553, "5.1.3", "Malformed recipient address")
NOT_LISTED = Reply(550, "5.7.1", "The recipient's domain is not on the list of operators")
CERTIFICATE_UNUSABLE = Reply(554, "5.7.5", "A recipient's certificate cannot be used now")
NOT_THE_PEERS = Reply(550, "5.7.1", "The From field is not of a domain of this operator")
TRY_LATER = Reply(451, "4.3.0", "Local error, try again later")


@dataclass(frozen=True, slots=True)
class Refused:
    """A message that was not taken, nothing of it stored, and what to tell the peer."""

    reply: Reply
