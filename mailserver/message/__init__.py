"""Messages as mail readers see them: wire forms, composed messages, reports. Pure."""
