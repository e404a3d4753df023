"""The functions that SQL calls, as Flink knows them.  This module alone, of all in udfs/, imports pyflink."""

from pyflink.table.udf import udf

from udfs import depth

depth_within = udf(depth.depth_within, result_type="DOUBLE", func_type="general")
slippage_bps = udf(depth.slippage_bps, result_type="DOUBLE", func_type="general")
