"""The annuaire of health professionals, the trust list, and what every database here needs."""
