"""Changes made to dependencies, one file a project: the version, the upstream issue, and a test for each."""
