"""Every format radcds speaks, in both directions, as pure functions without I/O."""
