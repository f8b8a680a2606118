"""The mail database: every statement of the mail server is here, and nowhere else."""
