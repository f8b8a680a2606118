"""SASL as IMAP and submission both speak it: octets in, a challenge or a claim out; pure."""
