"""The questions: keyed state machines that never import pyflink.

A kernel runs in a job, a test, a notebook and a backtest alike.  `kernels.<name>` is a module or a package that declares
`KERNEL`, an `engine.contract.Kernel`; a job's SQL names it.
"""
