"""Shows things: tables, pages, comparisons and checks from stored records. Needs no torch."""
