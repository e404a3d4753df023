"""chain_greeks: the kernel of option_greeks, fed with forwards and surfaces too, which make it price whole chains."""

from kernels.option_greeks import SHARED, VERSION, State, new, step, take_plain

__all__ = ["SHARED", "VERSION", "State", "new", "step", "take_plain"]
