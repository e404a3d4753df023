"""The functions that SQL calls, declared for Flink.  This is the only module in udfs/ that imports pyflink."""

from pyflink.table.udf import udf

from udfs import depth

depth_within = udf(depth.depth_within, result_type="DOUBLE", func_type="general")
slippage_bps = udf(depth.slippage_bps, result_type="DOUBLE", func_type="general")
