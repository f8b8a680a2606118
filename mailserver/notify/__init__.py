"""Telling people, at an address outside the trust space, that something awaits them here."""
