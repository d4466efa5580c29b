"""Pixels in, triage result out. Knows no patient, no network, no FHIR and no DICOM header."""
