"""The workflow of one study and the outside world it touches. Start reading at ``triage.py``."""
