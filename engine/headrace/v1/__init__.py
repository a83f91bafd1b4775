"""Messages and enums generated from ``proto/headrace/v1``; not edited."""
