"""Is this evidence genuine? Each platform's evidence is verified here, offline, against pinned roots: no gateway is asked.

`appraisal` is what comes out, `chains` and `roots` what certificates are held to, `platforms` tells evidence by its bytes and hands
it to `sev_snp`, `tdx`, `nitro` or `nvidia`; `simulated` is what tests and the demo have in their place.
"""
