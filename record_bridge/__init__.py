"""The bridge: reads the application mailbox, files documents into records, answers senders."""
