def write_table(path, rows):
    pass
