"""The measurements, and the same work written for the peers."""
