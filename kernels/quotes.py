"""`kernels.market.quotes`, where `margin` still looks for it."""

from kernels.market.quotes import has_quote as has_quote
