"""The mail server of Pli: SMTP, IMAP, webmail, the queue and the process that holds them."""
