"""What people look at that needs several runs or the losses themselves: runs compared, and the report of runs."""

from nectargan_core.views._compare import Comparison, compare
from nectargan_core.views._report import write_report
from nectargan_core.views._tables import Table, grouped, table_of_differences, table_of_runs, table_of_values, turned

__all__ = [
    "Comparison",
    "Table",
    "compare",
    "grouped",
    "table_of_differences",
    "table_of_runs",
    "table_of_values",
    "turned",
    "write_report",
]
