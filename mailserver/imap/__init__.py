"""The IMAP server: a pure protocol core, services over the mail store, an asyncio shell."""
