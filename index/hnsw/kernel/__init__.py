"""The search kernel that numba compiles, and how it is compiled and loaded."""
