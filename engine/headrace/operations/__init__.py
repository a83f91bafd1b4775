"""What an operator does to a server and its data: back up, restore, migrate, examine, reload."""
