"""Who may call, who signs in, and who this server is to others: OAuth 2, OpenID Connect, SMART."""
