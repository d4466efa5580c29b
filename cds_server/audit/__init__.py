"""The append-only audit trail and its verification."""
