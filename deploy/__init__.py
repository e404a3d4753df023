"""Everything that runs the suite on one machine: jars, broker, cluster."""
