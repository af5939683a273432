"""Say what the analysis found: headline, sections, tables and notes, as text ready to be set.

Both renderers (page and print) set this same structure, so they cannot differ in content.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from decimal import Decimal
from typing import TYPE_CHECKING

from departments.catalog.finance import calendar_months, charts, money, sections

if TYPE_CHECKING:
    from departments.catalog.finance.analysis import Analysis

PAGE_WIDTH, PRINT_WIDTH, PHONE_WIDTH = 960, 680, 350
