"""What people download of the sets that are read from lists: their own tables, from which `convert` makes the lists."""
