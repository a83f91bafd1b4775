"""How far what was bid lies below the best in hindsight, and where the rest went."""
