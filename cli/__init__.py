"""The `gammaflow` command."""
