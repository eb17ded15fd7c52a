"""Who may do what: identity, credentials, policy, limits, audit, and what is never shown."""
