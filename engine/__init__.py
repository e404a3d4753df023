"""The engine carries a kernel into Flink.  It knows nothing of markets.

`contract` says what a kernel is; docs/engine.md how it runs.
"""
