"""`kernels.market.indices`, where `margin` and `liquidations` still look for it."""

from kernels.market.indices import USD as USD
from kernels.market.indices import chosen_currency as chosen_currency
from kernels.market.indices import named as named
from kernels.market.indices import own_currency as own_currency
from kernels.market.indices import parted as parted
from kernels.market.indices import quoted_in as quoted_in
