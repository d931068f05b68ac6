"""Renews the certificate of an authority, and tells of problems, without a control machine."""
