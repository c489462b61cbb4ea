"""What a request holds: every string of it, and what the detectors find there."""
