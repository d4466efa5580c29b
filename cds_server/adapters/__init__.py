"""One technology a file; only ``cds_server.bootstrap`` builds them."""
