"""What a run leaves for other programs: a summary as JSON, metrics for Prometheus, a log."""
