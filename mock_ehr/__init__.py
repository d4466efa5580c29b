"""A strict EHR to test against: SMART authorisation, FHIR R4, a CDS Hooks client and a chart.

It knows the published rules and nothing of the server it judges. What a client does wrong is
refused and written down in ``MockEhr.violations``. It holds invented people only.
"""
