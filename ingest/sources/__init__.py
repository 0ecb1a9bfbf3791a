"""Where pictures come from: folders, files, archives, tables, stores and URLs."""
