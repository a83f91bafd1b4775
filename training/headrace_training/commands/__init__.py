"""The commands of `headrace-train`, one module each: options in, a report out."""
