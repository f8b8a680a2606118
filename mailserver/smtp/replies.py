"""Every reply of the SMTP server, in one list; those shared with delivery are written there.

Invariants: a text is fixed, ASCII and says nothing that the peer sent (threats S7); a 5yz is
written here on purpose, whatever was not foreseen is ``LOCAL_ERROR``.

Source: RFC 5321 §4.2, RFC 3463 §3.1, RFC 2034 §4.
"""

from mailserver.delivery import errors
from mailserver.delivery.errors import Reply

GOODBYE = Reply(221, "2.0.0", "Bye")
START_TLS = Reply(220, "2.0.0", "Ready to start TLS")
AUTHENTICATED = Reply(235, "2.7.0", "Authentication successful")
OK = Reply(250, "2.0.0", "OK")
SENDER_OK = Reply(250, "2.1.0", "Sender OK")
RECIPIENT_OK = Reply(250, "2.1.5", "Recipient OK")
CANNOT_VERIFY = Reply(252, "2.1.5", "Cannot verify; send some mail")

SHUTTING_DOWN = Reply(421, "4.3.2", "Service closing, come back later")
SESSION_TOO_LONG = Reply(421, "4.4.2", "Session too long, come back")
IDLE_TOO_LONG = Reply(421, "4.4.2", "Idle for too long")
TOO_SLOW = Reply(421, "4.4.2", "Data comes too slowly")
TOO_MANY_CONNECTIONS = Reply(421, "4.7.0", "Too many connections")
DEVICE_OVER = Reply(421, "4.7.0", "This device may not be used any more")
TOO_MANY_ERRORS = Reply(421, "4.7.0", "Too many errors")
TOO_MANY_ATTEMPTS = Reply(421, "4.7.0", "Too many attempts")
LOCAL_ERROR = errors.TRY_LATER
LOOKUP_FAILED = Reply(451, "4.4.3", "Directory not available, try again later")
TOO_MANY_MESSAGES = Reply(450, "4.7.1", "Too many messages for now, come back later")
TOO_MANY_FOR_NOW = Reply(450, "4.7.1", "Too many recipients for now, come back later")
LIST_TOO_OLD = Reply(451, "4.7.5", "The list of operators is too old to be relied upon")
REVOCATION_UNKNOWN = Reply(451, "4.7.5", "No current revocation list for this certificate")
LOGIN_LATER = Reply(454, "4.7.0", "Temporary authentication failure")
TOO_MANY_RECIPIENTS = Reply(452, "4.5.3", "Too many recipients")

SYNTAX_ERROR = Reply(500, "5.5.2", "Syntax error")
UNKNOWN_COMMAND = Reply(500, "5.5.1", "Command not recognized")
COMMAND_TOO_LONG = Reply(500, "5.5.2", "Command line too long")
BAD_ARGUMENTS = Reply(501, "5.5.4", "Syntax error in arguments")
AUTH_ABORTED = Reply(501, "5.7.0", "Authentication cancelled")
BAD_RESPONSE = Reply(501, "5.5.2", "Not a response of this mechanism in base64")
NOT_IMPLEMENTED = Reply(502, "5.5.1", "Command not implemented")
BAD_SEQUENCE = Reply(503, "5.5.1", "Bad sequence of commands")
ALREADY_AUTHENTICATED = Reply(503, "5.5.1", "Already authenticated")
UNKNOWN_MECHANISM = Reply(504, "5.5.4", "Authentication mechanism not supported")
TLS_FIRST = Reply(530, "5.7.0", "Must issue a STARTTLS command first")
CERTIFICATE_FIRST = Reply(530, "5.7.0", "A client certificate of a listed operator is required")
AUTHENTICATE_FIRST = Reply(530, "5.7.0", "Authentication required")
BAD_CREDENTIALS = Reply(535, "5.7.8", "Authentication credentials invalid")
ENCRYPTION_REQUIRED = Reply(538, "5.7.11", "Encryption required for authentication")
UNKNOWN_RECIPIENT = errors.NO_SUCH_MAILBOX
CERTIFICATE_OVER = Reply(554, "5.7.1", "This certificate is revoked or out of date")
NOT_LISTED = Reply(550, "5.7.1", "This certificate is not on the list of operators")
NOT_LISTED_FOR_DOMAIN = Reply(
    550, "5.7.1", "This certificate is not on the list for the sender's domain"
)
RELAYING_DENIED = Reply(550, "5.7.1", "Relaying denied")
NOT_IN_TRUST_SPACE = errors.NOT_LISTED
TOO_BIG = Reply(552, "5.3.4", "Message too big")
BAD_SENDER_ADDRESS = Reply(553, "5.1.7", "Malformed sender address")
NEEDS_SMTPUTF8 = Reply(553, "5.6.7", "This address needs SMTPUTF8")
BAD_RECIPIENT_ADDRESS = errors.BAD_RECIPIENT
SOURCE_ROUTE = Reply(550, "5.7.1", "Source routes are refused")
PATIENT_MAIL_STAYS = errors.PATIENTS_STAY
PROTOCOL_ABUSE = Reply(554, "5.5.0", "Commands sent ahead of their turn")
BARE_CONTROL = Reply(554, "5.6.0", "Bare CR, bare LF or NUL in the message")
BAD_PARAMETER = Reply(555, "5.5.4", "Parameter not recognized")


def accepted(receipt_id: str) -> Reply:
    """The promise: what was sent is durable under this receipt (DESIGN §1.1)."""
    return Reply(250, "2.0.0", receipt_id)


def encode(reply: Reply) -> bytes:
    """Give the wire line of a reply, its CRLF included."""
    return f"{reply.code} {reply.enhanced} {reply.text}\r\n".encode("ascii")
