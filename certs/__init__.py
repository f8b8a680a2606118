"""The PKI and S/MIME of Pli: certificates, signatures, TLS, and the one MIME scanner.

Not a drawer of key files: private keys lie where the settings say.
"""
