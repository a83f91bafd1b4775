"""Offline training: from the event log to a published artifact."""
