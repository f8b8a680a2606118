"""The webmail: pages for patients and professionals, in French, without a script."""
