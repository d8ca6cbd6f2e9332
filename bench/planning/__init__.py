"""From words to runs: what was asked, what it means, what exists of it, what it costs, how it will stand in a table."""
