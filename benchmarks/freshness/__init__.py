"""Is anything ever stale? Real servers, writers and readers, faults at random times, and an oracle."""
