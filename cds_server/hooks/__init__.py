"""CDS Hooks: the services, the data that they need, and what they answer."""
