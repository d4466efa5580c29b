"""HTTP: CDS Hooks, FHIR, health. One blueprint a module."""
