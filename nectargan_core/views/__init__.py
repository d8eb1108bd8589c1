"""What people look at that needs several runs or the losses themselves: comparisons, reports, and loss maps."""

from nectargan_core.views._compare import Comparison, compare
from nectargan_core.views._maps import LossMap, draw_maps
from nectargan_core.views._report import file_of_page, write_report
from nectargan_core.views._tables import Table, grouped, table_of_differences, table_of_runs, table_of_values, turned

__all__ = [
    "Comparison",
    "LossMap",
    "Table",
    "compare",
    "draw_maps",
    "file_of_page",
    "grouped",
    "table_of_differences",
    "table_of_runs",
    "table_of_values",
    "turned",
    "write_report",
]
