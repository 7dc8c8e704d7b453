"""The auditor's side: what a gateway's log says, checked without trusting the gateway.

Stands on `blindgate_protocol` alone: whoever audits needs no key of a tenant, no model and no ciphertext.
"""
