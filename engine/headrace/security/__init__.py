"""Who may call what: keys, certificates, roles."""
