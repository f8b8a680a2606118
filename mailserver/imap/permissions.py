"""Which rights a command needs, in one table; pure.

Rule: everything that decides whether a right is needed lives here. A command that is in neither
table is refused on the folders of others. Where a refused person may neither look a folder up nor
read it, the answer is the one for a folder that does not exist (threat I11).

Source: RFC 4314 §4, RFC 9208 §4.1.2, RFC 6851 §3.
"""

from dataclasses import dataclass

from mailserver.imap import commands as c
from mailserver.imap import commands_messages as cm
from mailserver.imap import commands_search as cs
from mailserver.imap.errors import Code, RefusedError
from mailserver.store.model import Flag
from mailserver.store.rights import ALL, NONE, Rights


@dataclass(frozen=True, slots=True)
class Need:
    """Every one of some rights, and at least one of others where there are any."""

    every: Rights = NONE
    one_of: Rights = NONE

    def met(self, rights: Rights) -> bool:
        """Say whether rights are enough."""
        return self.every <= rights and (not self.one_of or bool(self.one_of & rights))


def _all(letters: str) -> Need:
    return Need(every=frozenset(letters))


def _any(letters: str) -> Need:
    return Need(one_of=frozenset(letters))


NOTHING = Need()
NAMED: dict[type, Need] = {
    c.Select: _all("r"),
    c.Status: _all("r"),
    c.GetQuotaRoot: _all("r"),
    c.Subscribe: _any("lr"),
    c.Unsubscribe: NOTHING,
    c.Delete: _all("xte"),
    c.Rename: _all("x"),
    c.Append: _all("i"),
    c.Replace: _all("i"),
    cm.Copy: _all("i"),
    cm.Move: _all("i"),
    c.GetAcl: _all("a"),
    c.SetAcl: _all("a"),
    c.DeleteAcl: _all("a"),
    c.ListRights: _all("a"),
    c.MyRights: _any("lrikxa"),
}
"""On the folder that a command names: for COPY, MOVE and REPLACE the target. CREATE, and RENAME's
new name, need ``k`` on the folder above; LIST, LSUB and NOTIFY show what there is ``l`` on. DELETE
takes messages along, so it needs the rights to delete those as well."""
CREATES: Need = _all("k")
OPEN: dict[type, Need] = {
    c.Check: NOTHING,
    c.Close: NOTHING,
    c.Unselect: NOTHING,
    cm.Fetch: _all("r"),
    cs.Search: _all("r"),
    cs.Sort: _all("r"),
    cs.Thread: _all("r"),
    cs.UidBatches: _all("r"),
    cm.Store: _any("swt"),
    c.Expunge: _all("e"),
    cm.Copy: _all("r"),
    cm.Move: _all("rte"),
    c.Replace: _all("rte"),
}
"""On the folder that is open. CLOSE expunges only with ``e``, FETCH sets Seen only with ``s``."""
WRITING: Rights = frozenset("swtie")
"""Who has none of these opens a folder read-only, whatever was asked. Source: RFC 4314 §5.2."""


def refusal(rights: Rights, code: Code = Code.NONEXISTENT) -> RefusedError:
    """Give the refusal of a command: of a folder that is there, or as of one that is not."""
    if rights & frozenset("lr"):
        return RefusedError(Code.NOPERM, "You have no right to do this here")
    return RefusedError(code, "No such mailbox")


def flags_within(rights: Rights) -> Flag:
    r"""Give the flags that may be changed: ``\Seen`` by s, ``\Deleted`` by t, others by w."""
    if rights == ALL:
        return Flag(31)
    mask = Flag(0)
    if "s" in rights:
        mask |= Flag.SEEN
    if "t" in rights:
        mask |= Flag.DELETED
    if "w" in rights:
        mask |= Flag.ANSWERED | Flag.FLAGGED | Flag.DRAFT
    return mask
