"""Is an exact explanation of an SCS network a good one?"""
