"""HL7 v2 over TCP: MLLP with TLS 1.3, both ways. Knows frames and acknowledgements, no results."""
