"""Renews the certificate of an authority, without a control machine."""
