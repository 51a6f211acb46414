"""The map page: one file that holds all it shows, or a page that asks its own server."""

from roadrisk.maps.page.described import layer_config, listed_field, name_field, rows_in_order
from roadrisk.maps.page.document import served_page
from roadrisk.maps.page.whole import PAGE_LIMIT_BYTES, page, write_page

__all__ = [
    "PAGE_LIMIT_BYTES",
    "layer_config",
    "listed_field",
    "name_field",
    "page",
    "rows_in_order",
    "served_page",
    "write_page",
]
