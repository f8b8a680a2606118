"""Codecs of the formats that documents travel in: XDM, ebRIM metadata, CDA headers.

Pure; import only ``certs`` and ``directory``. The one part of the package, with ``queries``, that
the mail server's delivery, command line and webmail may import.
"""
