"""SMTP in: port 25 for listed operators, submission for this site's users."""
