"""What FHIR resources must keep: R4 itself for all that is emitted, and profiles before sending."""
